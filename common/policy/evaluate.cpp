// SPDX-License-Identifier: Apache-2.0
#include "common/policy/evaluate.h"

#include "common/policy/glob.h"

#include <algorithm>

namespace bulkhead::policy {
namespace {

// Everything that a question needs, spelled out. No caches and no indexes: whoever doubts an answer can follow it.
struct Question {
    const PolicySet& policy;
    const Workload& own;
    Plane plane;
    const Attempt& attempt;
    const Workload* peer; // nullptr: an address that nobody in the inventory has
};

// An address that several workloads claim belongs to the first of them by name.
const Workload* owner_of(const Inventory& inventory, const IpAddress& address)
{
    const Workload* owner = nullptr;
    for (const auto& workload : inventory.workloads)
        for (const auto& own : workload.addresses)
            if (own == address && (owner == nullptr || workload.name < owner->name))
                owner = &workload;
    return owner;
}

bool is_member(const PolicySet& policy, const PeerRef& peer, const Workload& workload)
{
    if (peer.segment) {
        const auto* segment = policy.find_segment(*peer.segment);
        return segment != nullptr && segment->selector.matches(workload.labels);
    }
    if (peer.labels)
        return peer.labels->matches(workload.labels);
    return peer.workload && *peer.workload == workload.name;
}

bool names_address(const PolicySet& policy, const PeerRef& peer, const IpAddress& address)
{
    const auto contains = [&address](const Cidr& cidr) {
        return cidr.contains(address) && (cidr.is_loopback() || !address.is_loopback());
    };
    if ((peer.any && !address.is_loopback()) || std::any_of(peer.cidrs.begin(), peer.cidrs.end(), contains))
        return true;
    if (!peer.addresses)
        return false;
    const auto group = policy.address_groups.find(*peer.addresses);
    return group != policy.address_groups.end() && std::any_of(group->second.begin(), group->second.end(), contains);
}

bool counts(const Segment& segment, Plane plane)
{
    return segment.mode == Mode::enforce || (segment.mode == Mode::test && plane == Plane::shadow);
}

const ServiceAtom* serving(const Rule& rule, Protocol protocol, std::uint16_t port)
{
    const auto found = std::find_if(rule.services.begin(), rule.services.end(), [&](const ServiceAtom& atom) {
        return atom.protocol == protocol && atom.ports.contains(port);
    });
    return found != rule.services.end() ? &*found : nullptr;
}

// A port that is not known might be any, so only a rule about all of them is about it.
bool serves(const Rule& rule, const Attempt& attempt)
{
    if (attempt.port)
        return serving(rule, attempt.protocol, *attempt.port) != nullptr;
    const unsigned last = whole_range(attempt.protocol).last;
    for (unsigned port = 0; port <= last;) {
        const auto* atom = serving(rule, attempt.protocol, static_cast<std::uint16_t>(port));
        if (atom == nullptr)
            return false;
        port = atom->ports.last + 1U;
    }
    return true;
}

bool in_force(const Rule& rule, const Attempt& attempt)
{
    return !rule.expires || attempt.now < *rule.expires;
}

// At the end of the segment that declares the rule: the rule's other side is the attempt's peer.
bool matches_at_home(const Question& q, const Segment& segment, const Rule& rule)
{
    const auto& other = q.attempt.direction == Direction::inbound ? rule.from : rule.to;
    return other && segment.selector.matches(q.own.labels) &&
           (names_address(q.policy, *other, q.attempt.peer) ||
            (q.peer != nullptr && is_member(q.policy, *other, *q.peer))) &&
           (!rule.process || holds(*rule.process, q.attempt.process));
}

// At the other end: own is what the rule's other side names, the attempt's peer is in the segment. Which process acts
// at the far end cannot be seen from here, so an allow passes and leaves that half to the far end, and a deny that is
// only about one process is left to the far end whole.
bool matches_at_peer(const Question& q, const Segment& segment, const Rule& rule)
{
    const auto& other = q.attempt.direction == Direction::inbound ? rule.to : rule.from;
    return other && is_member(q.policy, *other, q.own) && q.peer != nullptr &&
           segment.selector.matches(q.peer->labels) && (rule.action == Action::allow || !rule.process);
}

// The first by "segment/id" of the rules with this action that match.
std::optional<std::string> first_match(const Question& q, Action action)
{
    std::optional<std::string> first;
    for (const auto& segment : q.policy.segments)
        for (const auto& rule : segment.rules) {
            if (rule.action != action || !in_force(rule, q.attempt) ||
                (action == Action::deny && !counts(segment, q.plane)) || !serves(rule, q.attempt))
                continue;
            if (!matches_at_home(q, segment, rule) && !matches_at_peer(q, segment, rule))
                continue;
            auto name = segment.name + "/" + rule.id;
            if (!first || name < *first)
                first = std::move(name);
        }
    return first;
}

Evaluation loopback_default(const Question& q)
{
    const Segment* denies = nullptr;
    for (const auto& segment : q.policy.segments)
        if (segment.loopback == Action::deny && counts(segment, q.plane) && segment.selector.matches(q.own.labels) &&
            (denies == nullptr || segment.name < denies->name))
            denies = &segment;
    if (denies == nullptr)
        return {BH_ALLOWED, BH_REASON_LOCAL, {}};
    return {BH_DENIED, BH_REASON_DEFAULT, denies->name + "/default-loopback"};
}

Evaluation by_default(const Question& q)
{
    if (q.attempt.peer.is_loopback())
        return loopback_default(q);
    const bool inbound = q.attempt.direction == Direction::inbound;
    const Segment* allows = nullptr;
    const Segment* denies = nullptr;
    for (const auto& segment : q.policy.segments) {
        if (!counts(segment, q.plane) || !segment.selector.matches(q.own.labels))
            continue;
        const auto action = inbound ? segment.inbound : segment.outbound;
        const Segment*& decider = action == Action::deny ? denies : allows;
        if (decider == nullptr || segment.name < decider->name)
            decider = &segment;
    }
    const auto* decider = denies != nullptr ? denies : allows;
    if (decider == nullptr)
        return {BH_ALLOWED, BH_REASON_NO_POLICY, {}};
    return {denies != nullptr ? BH_DENIED : BH_ALLOWED, BH_REASON_DEFAULT,
            decider->name + (inbound ? "/default-inbound" : "/default-outbound")};
}

} // namespace

bool holds(const ProcessCondition& condition, const ProcessFacts& process)
{
    if (condition.unit && std::find(process.units.begin(), process.units.end(), *condition.unit) == process.units.end())
        return false;
    if (condition.exe && !glob_matches(*condition.exe, process.exe))
        return false;
    if (condition.sha256 && condition.sha256 != process.sha256)
        return false;
    if (condition.user && *condition.user != process.user)
        return false;
    return !condition.container || (!process.container.empty() && process.container.starts_with(*condition.container));
}

ClassVector classes_of(const std::vector<ProcessCondition>& conditions, const ProcessFacts& process)
{
    ClassVector classes;
    classes.set(0);
    for (std::size_t i = 0; i < conditions.size() && i + 1 < classes.size(); ++i)
        classes.set(i + 1, holds(conditions[i], process));
    return classes;
}

Evaluation evaluate(const PolicySet& policy, const Inventory& inventory, const Workload& own, Plane plane,
                    const Attempt& attempt)
{
    const auto* peer = attempt.peer.is_loopback() ? nullptr : owner_of(inventory, attempt.peer);
    const Question question{policy, own, plane, attempt, peer};
    if (auto rule = first_match(question, Action::deny))
        return {BH_DENIED, BH_REASON_RULE, std::move(*rule)};
    if (auto rule = first_match(question, Action::allow))
        return {BH_ALLOWED, BH_REASON_RULE, std::move(*rule)};
    return by_default(question);
}

} // namespace bulkhead::policy
