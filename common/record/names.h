// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "record.pb.h"

#include <optional>
#include <string_view>

namespace bulkhead::record
{

// The reverse of to_string() in json.h; nullopt for a word that is none of the enumeration's. Case matters.
[[nodiscard]] std::optional<v1::Record::Verdict> parse_verdict(std::string_view text);
[[nodiscard]] std::optional<v1::Record::Kind> parse_kind(std::string_view text);
[[nodiscard]] std::optional<v1::Record::Event> parse_event(std::string_view text);
[[nodiscard]] std::optional<v1::Record::Direction> parse_direction(std::string_view text);
[[nodiscard]] std::optional<v1::Record::Reason> parse_reason(std::string_view text);
// tcp, udp, icmp, icmpv6 or an IANA number, 1-255.
[[nodiscard]] std::optional<std::uint32_t> parse_protocol(std::string_view text);

} // namespace bulkhead::record
