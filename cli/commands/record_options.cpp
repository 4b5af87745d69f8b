// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/record_options.h"

#include "common/core/timestamp.h"
#include "common/record/json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace bulkhead::cli {
namespace {

template <typename Number>
std::optional<Number> parse_number(std::string_view text)
{
    Number value{};
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || code != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

std::optional<std::int64_t> parse_ago(std::string_view text)
{
    constexpr std::array<std::pair<char, std::int64_t>, 4> units{{{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86'400}}};
    if (text.size() < 2)
        return std::nullopt;
    const auto amount = parse_number<std::uint32_t>(text.substr(0, text.size() - 1));
    for (const auto& [letter, seconds] : units)
        if (amount && text.back() == letter)
            return *amount * seconds * 1'000'000;
    return std::nullopt;
}

Result<std::int64_t> parse_time(const std::string& text, std::int64_t now_micros)
{
    if (const auto ago = parse_ago(text))
        return now_micros - *ago;
    if (const auto instant = parse_rfc3339_micros(text))
        return *instant;
    return tl::unexpected(Error{ErrorKind::usage, fmt::format("'{}' is no time", text),
                                "write 90s, 5m, 2h or 7d (ago), or 2026-11-21T13:00:00Z"});
}

template <typename Enumeration>
Result<Enumeration> choose(std::string_view what, const std::string& text, std::initializer_list<Enumeration> values)
{
    std::vector<std::string_view> names;
    for (const auto value : values) {
        names.push_back(record::to_string(value));
        if (names.back() == text)
            return value;
    }
    return tl::unexpected(Error{ErrorKind::usage, fmt::format("'{}' is no {}", text, what),
                                fmt::format("one of: {}", fmt::join(names, ", "))});
}

Status add_verdict(v1::RecordFilter& filter, const std::string& text)
{
    BULKHEAD_TRY(const auto value,
                 choose("verdict", text, {v1::Record::ALLOWED, v1::Record::DENIED, v1::Record::WOULD_DENY}));
    filter.add_verdicts(value);
    return {};
}

Status add_direction(v1::RecordFilter& filter, const std::string& text)
{
    BULKHEAD_TRY(const auto value,
                 choose("direction", text,
                        {v1::Record::INBOUND, v1::Record::OUTBOUND, v1::Record::FORWARDED, v1::Record::LOCAL}));
    filter.add_directions(value);
    return {};
}

Status add_protocol(v1::RecordFilter& filter, const std::string& text)
{
    for (const std::uint32_t number : {1U, 6U, 17U, 58U})
        if (record::protocol_name(number) == text) {
            filter.add_protocols(number);
            return {};
        }
    const auto number = parse_number<std::uint8_t>(text);
    if (!number)
        return tl::unexpected(
            Error{ErrorKind::usage, fmt::format("'{}' is no protocol", text), "write tcp, udp, icmp, icmpv6 or 0-255"});
    filter.add_protocols(*number);
    return {};
}

Status add_port(v1::RecordFilter& filter, const std::string& text)
{
    const auto port = parse_number<std::uint16_t>(text);
    if (!port)
        return tl::unexpected(Error{ErrorKind::usage, fmt::format("'{}' is no port", text), "write 0-65535"});
    filter.add_ports(*port);
    return {};
}

// `--not KEY=VALUE`: KEY is the name of another filter.
Status add_exclusion(v1::RecordQuery& query, const std::string& text)
{
    const auto equals = text.find('=');
    const auto key = text.substr(0, equals);
    const auto value = equals == std::string::npos ? std::string{} : text.substr(equals + 1);
    auto& filter = *query.add_exclude();
    if (!value.empty()) {
        if (key == "verdict")
            return add_verdict(filter, value);
        if (key == "direction")
            return add_direction(filter, value);
        if (key == "protocol")
            return add_protocol(filter, value);
        if (key == "port")
            return add_port(filter, value);
        auto* list = key == "from"      ? filter.mutable_from()
                     : key == "to"      ? filter.mutable_to()
                     : key == "host"    ? filter.mutable_hosts()
                     : key == "process" ? filter.mutable_processes()
                     : key == "unit"    ? filter.mutable_units()
                                        : nullptr;
        if (list != nullptr) {
            *list->Add() = value;
            return {};
        }
    }
    return tl::unexpected(Error{ErrorKind::usage, fmt::format("--not '{}' is no filter", text),
                                "write KEY=VALUE with one of verdict, direction, protocol, port, from, to, host, "
                                "process, unit; for example --not port=53"});
}

// `violations` shows denied and would-deny, or what of them `--verdict` chose.
Status restrict_to_violations(const RecordOptions& options, v1::RecordFilter& filter)
{
    if (!options.violations_only)
        return {};
    const auto& chosen = filter.verdicts();
    if (std::find(chosen.begin(), chosen.end(), v1::Record::ALLOWED) != chosen.end())
        return tl::unexpected(Error{ErrorKind::usage, "an allowed flow is no violation",
                                    "look with: bulkheadctl flows --verdict allowed"});
    if (chosen.empty()) {
        filter.add_verdicts(v1::Record::DENIED);
        filter.add_verdicts(v1::Record::WOULD_DENY);
    }
    return {};
}

} // namespace

Result<v1::RecordQuery> make_query(const RecordOptions& options, std::int64_t now_micros)
{
    v1::RecordQuery query;
    auto& filter = *query.mutable_filter();
    for (const auto& text : options.verdicts)
        BULKHEAD_CHECK(add_verdict(filter, text));
    for (const auto& text : options.directions)
        BULKHEAD_CHECK(add_direction(filter, text));
    for (const auto& text : options.protocols)
        BULKHEAD_CHECK(add_protocol(filter, text));
    for (const auto& text : options.exclude)
        BULKHEAD_CHECK(add_exclusion(query, text));
    for (const auto port : options.ports)
        filter.add_ports(port);
    filter.mutable_from()->Add(options.from.begin(), options.from.end());
    filter.mutable_to()->Add(options.to.begin(), options.to.end());
    filter.mutable_hosts()->Add(options.hosts.begin(), options.hosts.end());
    filter.mutable_processes()->Add(options.processes.begin(), options.processes.end());
    filter.mutable_units()->Add(options.units.begin(), options.units.end());
    // A flow that was cut is closed with verdict denied, so a violation is told by its verdict. A gap says that the
    // list is not whole.
    for (const auto kind : {v1::Record::FLOW, v1::Record::VIOLATION, v1::Record::GAP})
        filter.add_kinds(kind);
    BULKHEAD_CHECK(restrict_to_violations(options, filter));
    if (!options.since.empty()) {
        BULKHEAD_TRY(const auto since, parse_time(options.since, now_micros));
        query.set_since_us(since);
    }
    if (!options.until.empty()) {
        BULKHEAD_TRY(const auto until, parse_time(options.until, now_micros));
        query.set_until_us(until);
    }
    if (query.since_us() != 0 && query.until_us() != 0 && query.since_us() >= query.until_us())
        return tl::unexpected(Error{ErrorKind::usage, "--since is not before --until", "turn them round"});
    query.set_follow(options.follow);
    const bool bounded = options.last > 0 || !options.since.empty() || !options.until.empty();
    query.set_last(bounded ? options.last : (options.follow ? 10 : 20));
    return query;
}

} // namespace bulkhead::cli
