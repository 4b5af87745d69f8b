// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/random_policy.h"

#include <fmt/format.h>

namespace bulkhead::harness {
namespace {

using namespace policy;

std::string quoted(std::string_view text)
{
    std::string result = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\')
            result += '\\';
        result += c;
    }
    return result + '"';
}

template <typename Range, typename Text>
std::string list_of(const Range& range, Text text)
{
    std::string result;
    for (const auto& item : range)
        result += (result.empty() ? "" : ", ") + text(item);
    return "[" + result + "]";
}

std::string terms_of(const LabelSelector& selector)
{
    std::string result;
    for (const auto& [key, values] : selector.terms)
        result += fmt::format("{}{}: {}", result.empty() ? "" : ", ", key,
                              values.empty() ? quoted("*") : list_of(values, [](const auto& v) { return quoted(v); }));
    return "{" + result + "}";
}

std::string text_of(const PeerRef& peer)
{
    if (peer.any)
        return "any";
    if (peer.segment)
        return fmt::format("{{segment: {}}}", quoted(*peer.segment));
    if (peer.labels)
        return fmt::format("{{labels: {}}}", terms_of(*peer.labels));
    if (peer.workload)
        return fmt::format("{{workload: {}}}", quoted(*peer.workload));
    if (peer.addresses)
        return fmt::format("{{addresses: {}}}", quoted(*peer.addresses));
    return fmt::format("{{cidr: {}}}", list_of(peer.cidrs, [](const Cidr& c) { return quoted(c.to_string()); }));
}

const char* word(Protocol protocol)
{
    switch (protocol) {
    case Protocol::icmp: return "icmp";
    case Protocol::tcp: return "tcp";
    case Protocol::udp: return "udp";
    case Protocol::icmpv6: return "icmpv6";
    case Protocol::other: break;
    }
    return "proto";
}

std::string text_of(const ServiceAtom& atom)
{
    if (atom.protocol == Protocol::other) // its whole range has no word but `any`
        return atom.ports.first == atom.ports.last ? fmt::format("proto/{}", atom.ports.first) : "any";
    return fmt::format("{}/{}-{}", word(atom.protocol), atom.ports.first, atom.ports.last);
}

std::string text_of(const ProcessCondition& condition)
{
    std::string result;
    const auto add = [&result](const char* key, const std::optional<std::string>& value) {
        if (value)
            result += fmt::format("{}{}: {}", result.empty() ? "" : ", ", key, quoted(*value));
    };
    add("unit", condition.unit);
    add("exe", condition.exe);
    add("sha256", condition.sha256);
    add("user", condition.user);
    add("container", condition.container);
    return "{" + result + "}";
}

std::string text_of(const Rule& rule)
{
    auto result = fmt::format("  - {{id: {}, {}: {}, service: {}", rule.id, rule.from ? "from" : "to",
                              text_of(rule.from ? *rule.from : *rule.to),
                              list_of(rule.services, [](const ServiceAtom& a) { return text_of(a); }));
    if (rule.process)
        result += ", process: " + text_of(*rule.process);
    if (rule.expires)
        result += ", expires: " + format_rfc3339(*rule.expires);
    return result + "}\n";
}

std::string rules_of(const Segment& segment, Action action, const char* key)
{
    std::string result;
    for (const auto& rule : segment.rules)
        if (rule.action == action)
            result += text_of(rule);
    return result.empty() ? result : fmt::format("{}:\n{}", key, result);
}

const char* word(Action action)
{
    return action == Action::allow ? "allow" : "deny";
}

const char* word(Mode mode)
{
    return mode == Mode::observe ? "observe" : mode == Mode::test ? "test" : "enforce";
}

} // namespace

std::string to_yaml(const PolicySet& policy)
{
    std::string result;
    for (const auto& segment : policy.segments)
        result += fmt::format("---\nversion: 1\nsegment: {}\nselector: {}\nmode: {}\ninbound: {}\noutbound: {}\n"
                              "loopback: {}\n{}{}",
                              segment.name, terms_of(segment.selector), word(segment.mode), word(segment.inbound),
                              word(segment.outbound), word(segment.loopback), rules_of(segment, Action::allow, "allow"),
                              rules_of(segment, Action::deny, "deny"));
    if (!policy.address_groups.empty())
        result += "---\nversion: 1\naddresses:\n";
    for (const auto& [name, cidrs] : policy.address_groups)
        result += fmt::format("  {}: {}\n", name, list_of(cidrs, [](const Cidr& c) { return quoted(c.to_string()); }));
    if (!policy.workloads.empty())
        result += "---\nversion: 1\nworkloads:\n";
    for (const auto& workload : policy.workloads)
        result += fmt::format("  - {{name: {}}}\n", workload.name);
    return result;
}

std::string to_text(const Scenario& scenario)
{
    auto result = to_yaml(scenario.policy) + "inventory:\n";
    for (const auto& workload : scenario.inventory.workloads) {
        result += fmt::format("  {}:", workload.name);
        for (const auto& [key, value] : workload.labels)
            result += fmt::format(" {}={}", key, value);
        for (const auto& address : workload.addresses)
            result += " " + address.to_string();
        result += '\n';
    }
    return result;
}

std::string to_text(const Attempt& attempt)
{
    return fmt::format("{} {}/{} peer {} exe '{}' at {}",
                       attempt.direction == Direction::inbound ? "inbound" : "outbound", word(attempt.protocol),
                       attempt.port ? std::to_string(*attempt.port) : "unknown", attempt.peer.to_string(),
                       attempt.process.exe, format_rfc3339(attempt.now));
}

} // namespace bulkhead::harness
