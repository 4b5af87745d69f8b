// SPDX-License-Identifier: Apache-2.0
#include "common/policy/describe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace bulkhead::policy {
namespace {

std::string_view plane_words(std::uint8_t planes)
{
    switch (planes) {
    case plane_bit(Plane::active): return "active";
    case plane_bit(Plane::shadow): return "shadow";
    default: return "active+shadow";
    }
}

std::string_view word(Direction direction)
{
    return direction == Direction::inbound ? "inbound" : "outbound";
}

std::string_view word(HostAction action)
{
    switch (action) {
    case HostAction::allow: return "allow";
    case HostAction::deny: return "deny";
    case HostAction::failsafe: break;
    }
    return "failsafe";
}

std::string describe_peers(const PeerSet& peers)
{
    if (peers.any)
        return "any";
    std::vector<std::string> words;
    for (const auto& cidr : peers.cidrs)
        words.push_back(cidr.to_string());
    for (const auto identity : peers.identities)
        words.push_back(fmt::format("identity {}", identity));
    return words.empty() ? "nobody" : fmt::format("{}", fmt::join(words, ", "));
}

std::string describe_default(const HostPolicy& policy, Plane plane, Direction direction)
{
    const auto& decided = policy.defaults[static_cast<std::size_t>(plane)][static_cast<std::size_t>(direction)];
    const auto head = fmt::format("default {} {}: ", plane_words(plane_bit(plane)), word(direction));
    if (!decided.action)
        return head + "not judged";
    return head + fmt::format("{} ({})", *decided.action == Action::deny ? "deny" : "allow", decided.segment);
}

} // namespace

std::string describe(const std::vector<ServiceAtom>& services)
{
    const PortRange all{0, 65535};
    if (services.size() == 2 && services[0] == ServiceAtom{Protocol::tcp, all} &&
        services[1] == ServiceAtom{Protocol::udp, all})
        return "any";
    std::vector<std::string> words;
    for (const auto& [protocol, ports] : services) {
        const auto* name = protocol == Protocol::tcp ? "tcp" : "udp";
        words.push_back(ports.first == ports.last ? fmt::format("{}/{}", name, ports.first)
                                                  : fmt::format("{}/{}-{}", name, ports.first, ports.last));
    }
    return fmt::format("{}", fmt::join(words, ", "));
}

std::string describe(const ProcessCondition& condition)
{
    std::vector<std::string> words;
    const auto add = [&words](const char* key, const std::optional<std::string>& value) {
        if (value)
            words.push_back(fmt::format("{} {}", key, *value));
    };
    add("unit", condition.unit);
    add("exe", condition.exe);
    add("sha256", condition.sha256);
    add("user", condition.user);
    add("container", condition.container);
    return fmt::format("{}", fmt::join(words, ", "));
}

std::string describe(const Sessions& sessions)
{
    switch (sessions.kind) {
    case Sessions::Kind::keep: return "keep";
    case Sessions::Kind::drain: return fmt::format("drain {}s", sessions.drain.count());
    case Sessions::Kind::cut: break;
    }
    return "cut";
}

std::vector<std::string> describe(const HostPolicy& policy)
{
    std::vector<std::string> lines;
    lines.push_back(fmt::format("segments: {}", fmt::join(policy.segments, ", ")));
    for (const auto plane : {Plane::active, Plane::shadow})
        for (const auto direction : {Direction::inbound, Direction::outbound})
            lines.push_back(describe_default(policy, plane, direction));
    lines.push_back("sessions: " + describe(policy.sessions));
    for (const auto& rule : policy.rules) {
        auto line = fmt::format("{} {} {} {} {} service {}", rule.id, word(rule.action), word(rule.direction),
                                rule.direction == Direction::inbound ? "from" : "to", describe_peers(rule.peers),
                                describe(rule.services));
        if (rule.process_class != 0 && rule.process_class <= policy.processes.size())
            line += fmt::format(" process ({})", describe(policy.processes[rule.process_class - 1U]));
        lines.push_back(line + fmt::format(" in {}", plane_words(rule.planes)) +
                        (rule.where.empty() ? "" : fmt::format(" [{}]", rule.where)));
    }
    return lines;
}

} // namespace bulkhead::policy
