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
    default: return v1::Record::REASON_UNSET; // LOCAL and REPLY: no door was passed
    }
}

policy::ClassVector classes_of(const bh_class_vector& vector)
{
    policy::ClassVector classes;
    for (std::size_t i = 0; i < classes.size(); ++i)
        classes[i] = (vector.word[i / 64] >> (i % 64) & 1) != 0;
    return classes;
}

std::string rule_behind(const PolicyView& view, policy::Plane plane, const Judgement& judgement, std::uint8_t verdict,
                        std::uint8_t reason)
{
    if (reason == BH_REASON_DEFAULT) {
        const bool inbound = judgement.direction == policy::Direction::inbound;
        const auto& by_default =
            view.policy.defaults[static_cast<std::size_t>(plane)][static_cast<std::size_t>(judgement.direction)];
        if (by_default.segment.empty())
            return {};
        return by_default.segment + (inbound ? "/default-inbound" : "/default-outbound");
    }
    if (reason != BH_REASON_RULE && reason != BH_REASON_FAILSAFE)
        return {};
    const auto& image = plane == policy::Plane::active ? view.active : view.shadow;
    const policy::Approach approach{judgement.direction, judgement.protocol, judgement.peer, judgement.port};
    const auto again = policy::judge(image, view.policy, approach, classes_of(judgement.classes));
    if (again.verdict != verdict || again.reason != reason || !again.rule || *again.rule >= view.policy.rules.size())
        return {};
    return view.policy.rules[*again.rule].id;
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

SharedAttribution PolicyWords::attribute(const Judgement& judgement)
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
    words.rule = rule_behind(view, policy::Plane::active, judgement, judgement.verdict, judgement.reason);
    words.shadow_rule =
        rule_behind(view, policy::Plane::shadow, judgement, judgement.shadow_verdict, judgement.shadow_reason);
    auto& shared = generation->given[{judgement.verdict, judgement.reason, judgement.shadow_verdict,
                                      judgement.shadow_reason, words.rule, words.shadow_rule}];
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
