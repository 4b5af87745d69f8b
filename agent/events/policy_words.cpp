// SPDX-License-Identifier: Apache-2.0
#include "agent/events/policy_words.h"

#include <algorithm>

namespace bulkhead::agent {
namespace {

constexpr std::size_t kept_generations = 4;

v1::Record::Reason reason_of(std::uint8_t reason)
{
    switch (reason) {
    case BH_REASON_NO_POLICY: return v1::Record::NO_POLICY;
    case BH_REASON_FAILSAFE: return v1::Record::FAILSAFE;
    case BH_REASON_RULE: return v1::Record::RULE;
    case BH_REASON_DEFAULT: return v1::Record::DEFAULT;
    case BH_REASON_MALFORMED: return v1::Record::MALFORMED;
    case BH_REASON_QUARANTINE: return v1::Record::QUARANTINE;
    case BH_REASON_FULL: return v1::Record::FULL;
    case BH_REASON_LOCAL: return v1::Record::LOOPBACK;
    default: return v1::Record::REASON_UNSET; // REPLY: no door was passed
    }
}

struct Words {
    v1::Record::Reason reason = v1::Record::REASON_UNSET;
    std::string rule; // empty: not known
};

struct Answer {
    std::uint8_t verdict, reason;
};

// Nothing where judging again does not give this answer at that time.
std::optional<policy::Verdict> judged_alike(const PolicyView& view, policy::Plane plane, const Judgement& judgement,
                                            Answer answer, WallTime now)
{
    const auto& image = plane == policy::Plane::active ? view.active : view.shadow;
    const policy::Approach approach{judgement.direction, judgement.protocol, judgement.peer, judgement.port, now};
    auto again = policy::judge(image, view.policy, approach, policy::class_vector(judgement.classes.word));
    if (again.verdict != answer.verdict || again.reason != answer.reason)
        return std::nullopt;
    return again;
}

// The rule that gives this answer at that time; nullptr where judging again does not.
const policy::HostRule* rule_that_gives(const PolicyView& view, policy::Plane plane, const Judgement& judgement,
                                        Answer answer, WallTime now)
{
    const auto again = judged_alike(view, plane, judgement, answer, now);
    return again && again->rule && *again->rule < view.policy.rules.size() ? &view.policy.rules[*again->rule] : nullptr;
}

// Of what was forwarded and refused: the question that was answered so (bh_judge_exchange); nothing where neither is.
std::optional<Judgement> half_that_refuses(const PolicyView& view, policy::Plane plane, const Judgement& judgement,
                                           Answer answer, WallTime now)
{
    auto half = judgement;
    half.direction = policy::Direction::inbound;
    half.peer = *judgement.source;
    half.source.reset();
    if (judged_alike(view, plane, half, answer, now))
        return half;
    half.direction = policy::Direction::outbound;
    half.peer = judgement.peer;
    return judged_alike(view, plane, half, answer, now) ? std::optional(half) : std::nullopt;
}

// In the words of a rule; empty where no segment has one.
std::string default_of(const policy::HostPolicy& policy, policy::Plane plane, const Judgement& judgement)
{
    const auto index = static_cast<std::size_t>(plane);
    const bool inbound = judgement.direction == policy::Direction::inbound;
    const auto& local = policy.loopback[index];
    const auto& wide = policy.defaults[index][static_cast<std::size_t>(judgement.direction)];
    if (judgement.peer.is_loopback())
        return local.segment.empty() ? std::string() : local.segment + "/default-loopback";
    return wide.segment.empty() ? std::string() : wide.segment + (inbound ? "/default-inbound" : "/default-outbound");
}

Words words_of(const PolicyView& view, policy::Plane plane, const Judgement& judgement, Answer answer, WallTime now)
{
    Words words{reason_of(answer.reason), {}};
    if (judgement.source && answer.verdict == BH_DENIED) {
        const auto half = half_that_refuses(view, plane, judgement, answer, now);
        return half ? words_of(view, plane, *half, answer, now) : words;
    }
    if (answer.reason == BH_REASON_RULE || answer.reason == BH_REASON_FAILSAFE) {
        if (const auto* rule = rule_that_gives(view, plane, judgement, answer, now))
            words.rule = rule->id;
        return words;
    }
    if (answer.reason != BH_REASON_DEFAULT)
        return words;
    words.rule = default_of(view.policy, plane, judgement);
    if (answer.verdict != BH_DENIED)
        return words;
    // Would a rule have let it pass that has expired?
    const auto* before =
        rule_that_gives(view, plane, judgement, {BH_ALLOWED, BH_REASON_RULE}, policy::beginning_of_time);
    if (before != nullptr && before->expires && *before->expires <= now)
        words = {v1::Record::EXPIRED, before->id};
    return words;
}

} // namespace

void PolicyWords::add(std::shared_ptr<const PolicyView> view)
{
    if (!view)
        return;
    add(view->fallback.lock());
    std::erase_if(generations_, [&view](const auto& kept) { return kept.view->generation == view->generation; });
    generations_.push_back({std::move(view), {}});
    if (generations_.size() > kept_generations)
        generations_.pop_front();
}

SharedAttribution PolicyWords::attribute(const Judgement& judgement, WallTime now)
{
    const auto generation = std::find_if(generations_.begin(), generations_.end(), [&judgement](const auto& kept) {
        return kept.view->generation == judgement.generation;
    });
    Attribution words;
    words.verdict = judgement.verdict;
    words.shadow_verdict = judgement.shadow_verdict;
    words.reason = reason_of(judgement.reason);
    words.shadow_reason = reason_of(judgement.shadow_reason);
    words.known = true;
    if (generation == generations_.end())
        return std::make_shared<const Attribution>(std::move(words));
    const auto& view = *generation->view;
    words.policy_version = view.policy_version;
    const auto active = words_of(view, policy::Plane::active, judgement, {judgement.verdict, judgement.reason}, now);
    const auto shadow =
        words_of(view, policy::Plane::shadow, judgement, {judgement.shadow_verdict, judgement.shadow_reason}, now);
    words.reason = active.reason;
    words.rule = active.rule;
    words.shadow_reason = shadow.reason;
    words.shadow_rule = shadow.rule;
    auto& shared =
        generation->given[{judgement.verdict, static_cast<std::uint8_t>(words.reason), judgement.shadow_verdict,
                           static_cast<std::uint8_t>(words.shadow_reason), words.rule, words.shadow_rule}];
    if (!shared)
        shared = std::make_shared<const Attribution>(std::move(words));
    return shared;
}

void PolicyWords::describe_peer(const IpAddress& address, v1::Endpoint& endpoint) const
{
    if (generations_.empty())
        return;
    const auto& view = *generations_.back().view;
    const auto entry = view.addresses.find(address);
    if (entry == view.addresses.end())
        return;
    endpoint.set_workload(entry->second.workload);
    endpoint.set_identity(entry->second.identity);
    const auto identity = view.identities.find(entry->second.identity);
    if (identity == view.identities.end())
        return;
    endpoint.mutable_segments()->Add(identity->second.segments.begin(), identity->second.segments.end());
    endpoint.mutable_labels()->insert(identity->second.labels.begin(), identity->second.labels.end());
}

std::uint64_t PolicyWords::policy_version() const
{
    return generations_.empty() ? 0 : generations_.back().view->policy_version;
}

} // namespace bulkhead::agent
