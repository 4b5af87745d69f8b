// SPDX-License-Identifier: Apache-2.0
#include "agent/local/policy_words.h"

#include "common/policy/describe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace bulkhead::agent {
namespace {

using policy::Direction;
using policy::HostAction;
using policy::Plane;

constexpr std::size_t peers_shown = 16; // a segment may have thousands of members

std::string word(HostAction action)
{
    switch (action) {
    case HostAction::allow: return "allow";
    case HostAction::deny: return "deny";
    case HostAction::failsafe: return "failsafe";
    }
    return "";
}

} // namespace

std::string describe_process(const policy::ProcessCondition& process)
{
    std::vector<std::string> terms;
    const auto add = [&](const char* key, const std::optional<std::string>& value) {
        if (value)
            terms.push_back(fmt::format("{}={}", key, *value));
    };
    add("unit", process.unit);
    add("exe", process.exe);
    add("sha256", process.sha256);
    add("user", process.user);
    add("container", process.container);
    return fmt::format("{}", fmt::join(terms, ","));
}

namespace {

std::string describe_planes(std::uint8_t planes)
{
    if (planes == policy::both_planes)
        return "active+shadow";
    return planes == policy::plane_bit(Plane::active) ? "active" : "shadow";
}

std::string describe_default(const policy::HostDefault& fallback)
{
    if (!fallback.action)
        return "not judged";
    return fmt::format("{} (segment {})", *fallback.action == policy::Action::allow ? "allow" : "deny",
                       fallback.segment);
}

std::string describe_rule(const policy::HostRule& rule, const PolicyView& view)
{
    const bool inbound = rule.direction == Direction::inbound;
    std::string line =
        fmt::format("{} {} {} {} : {}", word(rule.action), inbound ? "inbound" : "outbound", inbound ? "from" : "to",
                    describe_peers(rule.peers, view), describe_services(rule.services));
    if (rule.process_class != 0 && rule.process_class <= view.policy.processes.size())
        line += " process " + describe_process(view.policy.processes[rule.process_class - 1U]);
    line += fmt::format(" [{}] {}", describe_planes(rule.planes), rule.id);
    if (!rule.where.empty())
        line += fmt::format(" ({})", rule.where);
    return line;
}

} // namespace

std::string describe_services(const std::vector<policy::ServiceAtom>& services)
{
    return fmt::format("{}", fmt::join(policy::service_words(services), ","));
}

std::string describe_peers(const policy::PeerSet& peers, const PolicyView& view)
{
    if (peers.any)
        return "any";
    std::vector<std::string> words;
    for (const auto& cidr : peers.cidrs)
        words.push_back(cidr == Cidr::host(cidr.address) ? cidr.address.to_string() : cidr.to_string());
    std::set<std::string> workloads;
    for (const auto& [address, entry] : view.addresses)
        if (std::binary_search(peers.identities.begin(), peers.identities.end(), entry.identity))
            workloads.insert(entry.workload.empty() ? address.to_string() : entry.workload);
    words.insert(words.end(), workloads.begin(), workloads.end());
    if (words.size() > peers_shown) {
        const auto more = words.size() - peers_shown;
        words.resize(peers_shown);
        words.push_back(fmt::format("and {} more", more));
    }
    return words.empty() ? "nobody at present" : fmt::format("{}", fmt::join(words, ","));
}

std::vector<std::string> describe(const PolicyView& view)
{
    std::vector<std::string> lines;
    lines.push_back(fmt::format("segments: {}", view.policy.segments.empty()
                                                    ? std::string("none")
                                                    : fmt::format("{}", fmt::join(view.policy.segments, ","))));
    for (auto part : {describe_defaults(view), describe_rules(view)})
        lines.insert(lines.end(), std::make_move_iterator(part.begin()), std::make_move_iterator(part.end()));
    return lines;
}

std::vector<std::string> describe_defaults(const PolicyView& view)
{
    std::vector<std::string> lines;
    for (const auto plane : {Plane::active, Plane::shadow})
        for (const auto direction : {Direction::inbound, Direction::outbound})
            lines.push_back(fmt::format(
                "{} {} default: {}", plane == Plane::active ? "active" : "shadow",
                direction == Direction::inbound ? "inbound" : "outbound",
                describe_default(
                    view.policy.defaults[static_cast<std::size_t>(plane)][static_cast<std::size_t>(direction)])));
    return lines;
}

std::vector<std::string> describe_rules(const PolicyView& view)
{
    std::vector<std::string> lines;
    for (const auto action : {HostAction::failsafe, HostAction::deny, HostAction::allow}) // in order of precedence
        for (const auto& rule : view.policy.rules)
            if (rule.action == action)
                lines.push_back(describe_rule(rule, view));
    return lines;
}

} // namespace bulkhead::agent
