// SPDX-License-Identifier: Apache-2.0
#include "controller/policy/describe.h"

#include "common/policy/describe.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

std::string_view to_word(policy::Mode mode)
{
    switch (mode) {
    case policy::Mode::observe: return "observe";
    case policy::Mode::test: return "test";
    case policy::Mode::enforce: return "enforce";
    }
    return "";
}

std::string_view to_word(policy::Action action)
{
    return action == policy::Action::allow ? "allow" : "deny";
}

std::string to_text(const policy::Sessions& sessions)
{
    switch (sessions.kind) {
    case policy::Sessions::Kind::keep: return "keep";
    case policy::Sessions::Kind::drain: return fmt::format("drain {}s", sessions.drain.count());
    case policy::Sessions::Kind::cut: return "cut";
    }
    return "";
}

std::string to_text(const policy::LabelSelector& selector)
{
    std::vector<std::string> terms;
    for (const auto& [key, values] : selector.terms) {
        if (values.empty())
            terms.push_back(key + "=*");
        else if (values.size() == 1)
            terms.push_back(key + "=" + values.front());
        else
            terms.push_back(fmt::format("{}=({})", key, fmt::join(values, "|")));
    }
    return fmt::format("{}", fmt::join(terms, ","));
}

std::string to_text(const std::optional<policy::PeerRef>& peer, const std::string& own_segment)
{
    if (!peer)
        return "segment " + own_segment;
    if (peer->any)
        return "any";
    if (peer->segment)
        return "segment " + *peer->segment;
    if (peer->labels)
        return to_text(*peer->labels);
    if (peer->workload)
        return "workload " + *peer->workload;
    if (peer->addresses)
        return "addresses " + *peer->addresses;
    std::vector<std::string> cidrs;
    for (const auto& cidr : peer->cidrs)
        cidrs.push_back(cidr.to_string());
    return fmt::format("{}", fmt::join(cidrs, ","));
}

std::string to_text(const policy::ProcessCondition& condition)
{
    std::vector<std::string> parts;
    const auto add = [&parts](std::string_view key, const std::optional<std::string>& value) {
        if (value)
            parts.push_back(fmt::format("{}={}", key, *value));
    };
    add("unit", condition.unit);
    add("exe", condition.exe);
    add("sha256", condition.sha256);
    add("user", condition.user);
    add("container", condition.container);
    return fmt::format("{}", fmt::join(parts, ","));
}

v1::SegmentRule describe(const policy::Rule& rule, const std::string& segment)
{
    v1::SegmentRule info;
    info.set_id(rule.id);
    info.set_action(std::string(to_word(rule.action)));
    info.set_from(to_text(rule.from, segment));
    info.set_to(to_text(rule.to, segment));
    info.set_services(fmt::format("{}", fmt::join(policy::service_words(rule.services), ",")));
    if (rule.process)
        info.set_process(to_text(*rule.process));
    info.set_where(rule.where.to_string());
    info.set_reason(rule.reason);
    return info;
}

} // namespace

v1::SegmentInfo describe(const policy::Segment& segment, const World& world)
{
    v1::SegmentInfo info;
    info.set_name(segment.name);
    info.set_description(segment.description);
    info.set_owner(segment.owner);
    info.set_mode(std::string(to_word(segment.mode)));
    info.set_inbound(std::string(to_word(segment.inbound)));
    info.set_outbound(std::string(to_word(segment.outbound)));
    info.set_sessions(to_text(segment.sessions));
    info.set_selector(to_text(segment.selector));
    info.set_rules(static_cast<std::uint32_t>(segment.rules.size()));
    for (const auto& workload : world.composition.workloads.workloads)
        if (segment.selector.matches(workload.labels))
            info.add_workloads(workload.name);
    for (const auto& rule : segment.rules)
        *info.add_rule() = describe(rule, segment.name);
    return info;
}

v1::WorkloadInfo describe(const policy::Workload& workload, const World& world)
{
    v1::WorkloadInfo info;
    info.set_name(workload.name);
    info.mutable_labels()->insert(workload.labels.begin(), workload.labels.end());
    for (const auto& address : workload.addresses)
        info.add_addresses(wire::to_wire(address));
    if (const auto sources = world.composition.label_sources.find(workload.name);
        sources != world.composition.label_sources.end())
        info.mutable_label_sources()->insert(sources->second.begin(), sources->second.end());
    if (const auto id = world.identity_of.find(workload.name); id != world.identity_of.end()) {
        info.set_identity(id->second);
        if (const auto* identity = world.identity(id->second))
            for (const auto& segment : identity->segments)
                info.add_segments(segment);
    }
    return info;
}

v1::PolicyEdition describe(const PolicyVersion& policy, std::uint64_t in_force)
{
    v1::PolicyEdition info;
    info.set_version(policy.version);
    info.set_created_us(policy.created_us);
    info.set_author(policy.author);
    info.set_message(policy.message);
    info.set_status(policy.version == in_force ? "in-force" : "superseded");
    if (!policy.trial)
        return info;
    info.set_trial_until_us(policy.trial->until_us);
    info.set_ended_us(policy.trial->ended_us);
    info.set_ended_by(policy.trial->ended_by);
    switch (policy.trial->outcome) {
    case TrialOutcome::pending: info.set_status("on-trial"); break;
    case TrialOutcome::confirmed: info.set_confirmed(true); break;
    case TrialOutcome::lapsed: info.set_status("lapsed"); break;
    case TrialOutcome::rolled_back: info.set_status("rolled-back"); break;
    case TrialOutcome::replaced: info.set_status("replaced"); break;
    }
    return info;
}

v1::Quarantine describe(const QuarantineRow& quarantine)
{
    v1::Quarantine info;
    info.set_by(quarantine.by);
    info.set_reason(quarantine.reason);
    info.set_since_us(quarantine.since_us);
    info.set_until_us(quarantine.until_us);
    return info;
}

} // namespace bulkhead::controller
