// SPDX-License-Identifier: Apache-2.0
#include "common/record/names.h"

#include "common/record/json.h"
#include "common/wire/wire.h"

#include <array>
#include <charconv>

namespace bulkhead::record {
namespace {

using Words = std::string_view; // index: the enumeration's number; "" is "not set"

constexpr std::array<Words, 6> kinds{"", "flow", "violation", "gap", "audit", "alert"};
constexpr std::array<Words, 5> events{"", "open", "update", "close", "deny"};
constexpr std::array<Words, 5> directions{"", "inbound", "outbound", "forwarded", "local"};
constexpr std::array<Words, 4> verdicts{"", "allowed", "denied", "would-deny"};
constexpr std::array<Words, 10> reasons{"",          "rule",      "default", "quarantine", "failsafe",
                                        "no-policy", "malformed", "expired", "full",       "loopback"};
static_assert(kinds.size() == v1::Record::Kind_ARRAYSIZE);
static_assert(events.size() == v1::Record::Event_ARRAYSIZE);
static_assert(directions.size() == v1::Record::Direction_ARRAYSIZE);
static_assert(verdicts.size() == v1::Record::Verdict_ARRAYSIZE);
static_assert(reasons.size() == v1::Record::Reason_ARRAYSIZE);

struct ProtocolName {
    std::uint32_t number;
    std::string_view name;
};
constexpr std::array<ProtocolName, 4> protocols{{{6, "tcp"}, {17, "udp"}, {1, "icmp"}, {58, "icmpv6"}}};

template <std::size_t N>
std::string_view word(const std::array<Words, N>& words, int value)
{
    return value > 0 && static_cast<std::size_t>(value) < N ? words[static_cast<std::size_t>(value)] : Words{};
}

template <typename Enum, std::size_t N>
std::optional<Enum> find(const std::array<Words, N>& words, std::string_view text)
{
    for (std::size_t i = 1; i < N; ++i) {
        if (words[i] == text)
            return static_cast<Enum>(i);
    }
    return std::nullopt;
}

} // namespace

std::string_view to_string(v1::Record::Verdict verdict)
{
    return word(verdicts, verdict);
}
std::string_view to_string(v1::Record::Kind kind)
{
    return word(kinds, kind);
}
std::string_view to_string(v1::Record::Event event)
{
    return word(events, event);
}
std::string_view to_string(v1::Record::Direction direction)
{
    return word(directions, direction);
}
std::string_view to_string(v1::Record::Reason reason)
{
    return word(reasons, reason);
}

std::optional<v1::Record::Verdict> parse_verdict(std::string_view text)
{
    return find<v1::Record::Verdict>(verdicts, text);
}
std::optional<v1::Record::Kind> parse_kind(std::string_view text)
{
    return find<v1::Record::Kind>(kinds, text);
}
std::optional<v1::Record::Event> parse_event(std::string_view text)
{
    return find<v1::Record::Event>(events, text);
}
std::optional<v1::Record::Direction> parse_direction(std::string_view text)
{
    return find<v1::Record::Direction>(directions, text);
}
std::optional<v1::Record::Reason> parse_reason(std::string_view text)
{
    return find<v1::Record::Reason>(reasons, text);
}

std::string protocol_name(std::uint32_t number)
{
    for (const auto& protocol : protocols) {
        if (protocol.number == number)
            return std::string(protocol.name);
    }
    return std::to_string(number);
}

std::optional<std::uint32_t> parse_protocol(std::string_view text)
{
    for (const auto& protocol : protocols) {
        if (protocol.name == text)
            return protocol.number;
    }
    std::uint32_t number = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (code != std::errc{} || end != text.data() + text.size() || number == 0 || number > 255)
        return std::nullopt;
    return number;
}

std::string ip_to_string(const std::string& bytes)
{
    const auto address = wire::address_from_wire(bytes);
    return address ? address->to_string() : std::string();
}

} // namespace bulkhead::record
