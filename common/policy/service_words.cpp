// SPDX-License-Identifier: Apache-2.0
#include "common/policy/service_words.h"

#include "common/policy/known_services.h"
#include "common/policy/protocol_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace bulkhead::policy {
namespace {

bool is_number(std::string_view text)
{
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// What a number in a service counts, for messages.
struct Scale {
    std::string_view what;
    unsigned most;
    std::string_view example;
};

constexpr Scale port_scale{"port", 65535, "write for example tcp/5432 or udp/8000-8100"};
constexpr Scale type_scale{"type", 255, "write a type's name or number, such as icmp/echo, icmp/8 or icmpv6/128"};
constexpr Scale protocol_scale{"protocol", 255, "write a protocol's name or number, such as proto/gre or proto/47"};

std::optional<std::uint16_t> number_of(std::string_view text, const Scale& scale, const ServiceWord& word,
                                       Findings& findings)
{
    if (!is_number(text)) {
        findings.add(word.where, fmt::format("'{}' in '{}' is not a {}", shown(text), shown(word.text), scale.what),
                     std::string(scale.example));
        return std::nullopt;
    }
    std::uint16_t number = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (code != std::errc{} || number > scale.most) {
        findings.add(word.where, fmt::format("{} {} is larger than {}", scale.what, shown(text), scale.most),
                     fmt::format("{}s go from 0 to {}", scale.what, scale.most));
        return std::nullopt;
    }
    return number;
}

std::optional<PortRange> range_of(std::string_view text, const Scale& scale, const ServiceWord& word,
                                  Findings& findings)
{
    const auto dash = text.find('-');
    const auto first = number_of(text.substr(0, dash), scale, word, findings);
    if (dash == std::string_view::npos)
        return first ? std::optional(PortRange{*first, *first}) : std::nullopt;
    const auto last = number_of(text.substr(dash + 1), scale, word, findings);
    if (!first || !last)
        return std::nullopt;
    if (*first <= *last)
        return PortRange{*first, *last};
    findings.add(word.where, fmt::format("the range {}-{} goes backwards", *first, *last),
                 fmt::format("write {}-{}", *last, *first));
    return std::nullopt;
}

ServiceAtom whole(Protocol protocol)
{
    return {protocol, whole_range(protocol)};
}

// `icmp/NAME` is that type of both families, where both have it; a number is of the family that is written.
std::vector<ServiceAtom> icmp_types(Protocol protocol, std::string_view type, const ServiceWord& word,
                                    Findings& findings)
{
    if (!type.empty() && type.front() >= '0' && type.front() <= '9') {
        const auto types = range_of(type, type_scale, word, findings);
        return types ? std::vector<ServiceAtom>{{protocol, *types}} : std::vector<ServiceAtom>{};
    }
    std::vector<ServiceAtom> atoms;
    for (const auto family : {Protocol::icmp, Protocol::icmpv6})
        if (family == protocol || protocol == Protocol::icmp)
            if (const auto number = icmp_type(family, type))
                atoms.push_back({family, {*number, *number}});
    if (!atoms.empty())
        return atoms;
    std::string mend;
    if (findings.listens(word.where)) {
        auto names = icmp_type_names(protocol);
        if (protocol == Protocol::icmp)
            for (const auto name : icmp_type_names(Protocol::icmpv6))
                names.push_back(name);
        mend = suggest(type, names);
    }
    findings.add(word.where, fmt::format("'{}' in '{}' is not a type of ICMP", shown(type), shown(word.text)),
                 mend.empty() ? std::string(type_scale.example) : std::move(mend));
    return {};
}

// Empty: the protocol has no word of its own.
std::string_view own_word(std::uint16_t number)
{
    switch (static_cast<Protocol>(number)) {
    case Protocol::tcp: return "tcp/PORT";
    case Protocol::udp: return "udp/PORT";
    case Protocol::icmp: return "icmp or icmp/TYPE";
    case Protocol::icmpv6: return "icmpv6 or icmpv6/TYPE";
    case Protocol::other: break;
    }
    return {};
}

std::optional<std::uint16_t> named_protocol(std::string_view name)
{
    constexpr std::pair<std::string_view, Protocol> words[] = {{"tcp", Protocol::tcp},
                                                               {"udp", Protocol::udp},
                                                               {"icmp", Protocol::icmp},
                                                               {"icmpv6", Protocol::icmpv6},
                                                               {"ipv6-icmp", Protocol::icmpv6}};
    for (const auto& [word, protocol] : words)
        if (word == name)
            return static_cast<std::uint16_t>(protocol);
    if (const auto number = protocol_number(name))
        return *number;
    return std::nullopt;
}

std::vector<ServiceAtom> other_protocol(std::string_view text, const ServiceWord& word, Findings& findings)
{
    auto number = named_protocol(text);
    if (!number && (text.empty() || is_number(text)))
        number = number_of(text, protocol_scale, word, findings);
    else if (!number) {
        auto mend = findings.listens(word.where) ? suggest(text, protocol_names()) : std::string();
        findings.add(word.where, fmt::format("'{}' in '{}' is not a protocol", shown(text), shown(word.text)),
                     mend.empty() ? std::string(protocol_scale.example) : std::move(mend));
    }
    if (!number)
        return {};
    if (const auto own = own_word(*number); !own.empty()) {
        findings.add(word.where, fmt::format("'{}' has a word of its own", shown(word.text)),
                     fmt::format("write {}", own));
        return {};
    }
    return {{Protocol::other, {*number, *number}}};
}

// A word with a slash, cut at it.
std::vector<ServiceAtom> literal(std::string_view protocol, std::string_view rest, const ServiceWord& word,
                                 Findings& findings)
{
    if (protocol == "tcp" || protocol == "udp") {
        const auto ports = range_of(rest, port_scale, word, findings);
        const auto number = protocol == "tcp" ? Protocol::tcp : Protocol::udp;
        return ports ? std::vector<ServiceAtom>{{number, *ports}} : std::vector<ServiceAtom>{};
    }
    if (protocol == "icmp")
        return icmp_types(Protocol::icmp, rest, word, findings);
    if (protocol == "icmpv6")
        return icmp_types(Protocol::icmpv6, rest, word, findings);
    if (protocol == "proto")
        return other_protocol(rest, word, findings);
    findings.add(word.where, fmt::format("'{}' is not a protocol", shown(protocol)),
                 "write tcp/PORT, udp/PORT, icmp/TYPE or proto/NAME");
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
    if (protocol_number(word.text))
        mend = fmt::format("write proto/{}", word.text);
    else if (mend.empty())
        mend = "define it under services:, or write tcp/PORT, udp/PORT, icmp/TYPE or proto/NAME";
    findings.add(word.where, fmt::format("service '{}' is not known", shown(word.text)), std::move(mend));
}

} // namespace

std::vector<ServiceAtom> resolve_service(const ServiceWord& word, const ServiceNames* defined, Findings& findings)
{
    if (word.text == "any") {
        std::vector<ServiceAtom> all;
        for (const auto protocol : all_protocols)
            all.push_back(whole(protocol));
        return all;
    }
    if (word.text == "icmp")
        return {whole(Protocol::icmp), whole(Protocol::icmpv6)};
    if (word.text == "icmpv6")
        return {whole(Protocol::icmpv6)};
    if (defined != nullptr)
        if (const auto found = defined->find(word.text); found != defined->end())
            return found->second;
    if (const auto* known = find_known_service(word.text); known != nullptr)
        return known->atoms;
    if (const auto slash = word.text.find('/'); slash != std::string::npos)
        return literal(std::string_view(word.text).substr(0, slash), std::string_view(word.text).substr(slash + 1),
                       word, findings);
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
