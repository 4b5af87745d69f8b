// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/document.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::policy {

// Names of IANA's registries "Assigned Internet Protocol Numbers" and of the types of ICMP and ICMPv6, in lower case
// with '-' between words. The tables are ours, not /etc/protocols, so that a policy means the same on every machine.

// Of protocols that have no word of their own in a policy (tcp, udp, icmp, icmpv6).
[[nodiscard]] std::optional<std::uint8_t> protocol_number(std::string_view name);
// Empty: no name.
[[nodiscard]] std::string_view protocol_name(std::uint8_t number);
[[nodiscard]] std::vector<std::string_view> protocol_names();

// A type by its name, for Protocol::icmp or Protocol::icmpv6. What both have (echo, echo-reply, ...) has one name.
[[nodiscard]] std::optional<std::uint8_t> icmp_type(Protocol protocol, std::string_view name);
[[nodiscard]] std::string_view icmp_type_name(Protocol protocol, std::uint8_t type);
[[nodiscard]] std::vector<std::string_view> icmp_type_names(Protocol protocol);

// What a packet was about, as a service is written: "tcp/443", "icmp/echo", "proto/gre". `number` is the one in the
// packet, `port` the destination's port or the type of ICMP.
[[nodiscard]] std::string service_word(std::uint8_t number, std::uint16_t port);

} // namespace bulkhead::policy
