// SPDX-License-Identifier: Apache-2.0
#include "common/policy/describe.h"

#include "common/policy/protocol_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

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

bool has(const std::vector<ServiceAtom>& services, const ServiceAtom& atom)
{
    return std::find(services.begin(), services.end(), atom) != services.end();
}

bool has_whole(const std::vector<ServiceAtom>& services, Protocol protocol)
{
    return std::any_of(services.begin(), services.end(), [protocol](const ServiceAtom& atom) {
        return atom.protocol == protocol && atom.ports.first == 0 && atom.ports.last >= whole_range(protocol).last;
    });
}

std::string range_word(std::string_view protocol, const PortRange& range)
{
    return range.first == range.last ? fmt::format("{}/{}", protocol, range.first)
                                     : fmt::format("{}/{}-{}", protocol, range.first, range.last);
}

std::string word_of(const ServiceAtom& atom)
{
    if (has_ports(atom.protocol))
        return range_word(atom.protocol == Protocol::tcp ? "tcp" : "udp", atom.ports);
    return atom.ports.first == atom.ports.last ? service_word(static_cast<std::uint8_t>(atom.ports.first), 0)
                                               : range_word("proto", atom.ports);
}

// The type of the same name in the other family; nullopt: there is none, or the type has no name.
std::optional<ServiceAtom> counterpart(const ServiceAtom& atom)
{
    const auto other = atom.protocol == Protocol::icmp ? Protocol::icmpv6 : Protocol::icmp;
    const auto name = icmp_type_name(atom.protocol, static_cast<std::uint8_t>(atom.ports.first));
    const auto type = name.empty() ? std::nullopt : icmp_type(other, name);
    return type ? std::optional(ServiceAtom{other, {*type, *type}}) : std::nullopt;
}

// One word for what both families have, told at the atom of IPv4; empty at the other one.
std::string icmp_word(const std::vector<ServiceAtom>& services, const ServiceAtom& atom)
{
    const bool v4 = atom.protocol == Protocol::icmp;
    const auto number = static_cast<std::uint8_t>(atom.ports.first);
    const std::string_view word = v4 ? "icmp" : "icmpv6";
    if (atom == ServiceAtom{atom.protocol, whole_range(atom.protocol)}) {
        if (!v4)
            return has_whole(services, Protocol::icmp) ? "" : "icmpv6";
        return has_whole(services, Protocol::icmpv6) ? "icmp" : range_word(word, atom.ports);
    }
    if (atom.ports.first != atom.ports.last)
        return range_word(word, atom.ports);
    const auto same = counterpart(atom);
    if (same && has(services, *same))
        return v4 ? service_word(static_cast<std::uint8_t>(Protocol::icmp), number) : "";
    if (same && v4) // its name would mean IPv6 too
        return range_word(word, atom.ports);
    return service_word(static_cast<std::uint8_t>(atom.protocol), number);
}

} // namespace

std::vector<std::string> service_words(const std::vector<ServiceAtom>& services)
{
    if (std::all_of(std::begin(all_protocols), std::end(all_protocols),
                    [&services](Protocol protocol) { return has_whole(services, protocol); }))
        return {"any"}; // what else there is says nothing more
    std::vector<std::string> words;
    for (const auto& atom : services)
        if (auto word = atom.protocol == Protocol::icmp || atom.protocol == Protocol::icmpv6 ? icmp_word(services, atom)
                                                                                             : word_of(atom);
            !word.empty())
            words.push_back(std::move(word));
    return words;
}

std::string describe(const std::vector<ServiceAtom>& services)
{
    return fmt::format("{}", fmt::join(service_words(services), ", "));
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
