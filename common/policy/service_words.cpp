// SPDX-License-Identifier: Apache-2.0
#include "common/policy/service_words.h"

#include "common/policy/known_services.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace bulkhead::policy {
namespace {

constexpr PortRange all_ports{0, 65535};

bool is_number(std::string_view text)
{
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<std::uint16_t> port_of(std::string_view text, const ServiceWord& word, Findings& findings)
{
    if (!is_number(text)) {
        findings.add(word.where, fmt::format("'{}' in '{}' is not a port", shown(text), shown(word.text)),
                     "write for example tcp/5432 or udp/8000-8100");
        return std::nullopt;
    }
    std::uint16_t port = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (code != std::errc{}) {
        findings.add(word.where, fmt::format("port {} is larger than 65535", shown(text)), "ports go from 0 to 65535");
        return std::nullopt;
    }
    return port;
}

std::optional<PortRange> ports_of(std::string_view text, const ServiceWord& word, Findings& findings)
{
    const auto dash = text.find('-');
    const auto first = port_of(text.substr(0, dash), word, findings);
    if (dash == std::string_view::npos)
        return first ? std::optional(PortRange{*first, *first}) : std::nullopt;
    const auto last = port_of(text.substr(dash + 1), word, findings);
    if (!first || !last)
        return std::nullopt;
    if (*first <= *last)
        return PortRange{*first, *last};
    findings.add(word.where, fmt::format("the range {}-{} goes backwards", *first, *last),
                 fmt::format("write {}-{}", *last, *first));
    return std::nullopt;
}

// A word with a slash, cut at it.
std::vector<ServiceAtom> literal(std::string_view protocol, std::string_view rest, const ServiceWord& word,
                                 Findings& findings)
{
    if (protocol == "tcp" || protocol == "udp") {
        const auto ports = ports_of(rest, word, findings);
        const auto number = protocol == "tcp" ? Protocol::tcp : Protocol::udp;
        return ports ? std::vector<ServiceAtom>{{number, *ports}} : std::vector<ServiceAtom>{};
    }
    if (protocol == "icmp" || protocol == "icmpv6" || protocol == "proto" || is_number(protocol))
        findings.add(word.where,
                     fmt::format("'{}': this version of Bulkhead judges TCP and UDP only", shown(word.text)),
                     "remove it; a later version will bring ICMP and other protocols, which pass until then");
    else
        findings.add(word.where, fmt::format("'{}' is not a protocol", shown(protocol)), "write tcp/PORT or udp/PORT");
    return {};
}

void unknown_name(const ServiceWord& word, const ServiceNames* defined, Findings& findings)
{
    std::vector<std::string_view> names;
    if (findings.listens(word.where)) {
        if (defined != nullptr)
            for (const auto& [name, atoms] : *defined)
                names.push_back(name);
        for (const auto& service : known_services())
            names.push_back(service.name);
    }
    auto mend = suggest(word.text, names);
    if (mend.empty())
        mend = "define it under services:, or write tcp/PORT or udp/PORT";
    findings.add(word.where, fmt::format("service '{}' is not known", shown(word.text)), std::move(mend));
}

} // namespace

std::vector<ServiceAtom> resolve_service(const ServiceWord& word, const ServiceNames* defined, Findings& findings)
{
    if (word.text == "any")
        return {{Protocol::tcp, all_ports}, {Protocol::udp, all_ports}};
    if (defined != nullptr)
        if (const auto found = defined->find(word.text); found != defined->end())
            return found->second;
    if (const auto* known = find_known_service(word.text); known != nullptr)
        return known->atoms;
    if (const auto slash = word.text.find('/'); slash != std::string::npos)
        return literal(std::string_view(word.text).substr(0, slash), std::string_view(word.text).substr(slash + 1),
                       word, findings);
    if (word.text == "icmp" || word.text == "icmpv6")
        return literal(word.text, {}, word, findings);
    if (word.text == "tcp" || word.text == "udp")
        findings.add(word.where, fmt::format("'{}' without a port", word.text),
                     fmt::format("write {}/PORT, or {}/0-65535 for all ports", word.text, word.text));
    else if (is_number(word.text))
        findings.add(word.where, fmt::format("port {} without its protocol", shown(word.text)),
                     fmt::format("write tcp/{} or udp/{}", shown(word.text), shown(word.text)));
    else
        unknown_name(word, defined, findings);
    return {};
}

} // namespace bulkhead::policy
