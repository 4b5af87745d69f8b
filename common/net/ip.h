// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead {

// An IPv4 or IPv6 address in 16 bytes, network byte order. IPv4 is kept as ::ffff:a.b.c.d, so an IPv4-mapped IPv6
// address compares equal to the IPv4 address that it carries (RFC 4291, section 2.5.5.2).
struct IpAddress {
    std::array<std::uint8_t, 16> bytes{};

    // Dotted quad or RFC 4291 text; no zone, no prefix, no surrounding space. nullopt when malformed.
    static std::optional<IpAddress> parse(std::string_view text);
    static IpAddress from_v4(std::uint32_t host_order);

    [[nodiscard]] bool is_v4() const;
    [[nodiscard]] bool is_loopback() const; // 127.0.0.0/8 or ::1
    [[nodiscard]] bool is_unspecified() const;
    [[nodiscard]] std::string to_string() const; // RFC 5952; IPv4 as a dotted quad

    auto operator<=>(const IpAddress&) const = default;
};

// A prefix. `length` counts bits of the address's own family as written: 0-32 or 0-128.
struct Cidr {
    IpAddress address;
    std::uint8_t length = 0;

    enum class ParseError { malformed, host_bits };
    // "10.0.0.0/8", "2001:db8::/32"; a bare address is a /32 or /128. `error` (optional) tells host bits from nonsense.
    static std::optional<Cidr> parse(std::string_view text, ParseError* error = nullptr);
    static Cidr host(const IpAddress& address);

    [[nodiscard]] bool contains(const IpAddress& other) const;
    [[nodiscard]] bool contains(const Cidr& other) const;
    [[nodiscard]] bool is_loopback() const;           // lies wholly inside 127.0.0.0/8, or is ::1/128
    [[nodiscard]] std::uint8_t mapped_length() const; // bits of the 16-byte form: IPv4 + 96
    [[nodiscard]] Cidr masked() const;                // host bits cleared
    [[nodiscard]] std::string to_string() const;

    auto operator<=>(const Cidr&) const = default;
};

// Inclusive; first <= last.
struct PortRange {
    std::uint16_t first = 0;
    std::uint16_t last = 65535;

    [[nodiscard]] bool contains(std::uint16_t port) const { return first <= port && port <= last; }
    auto operator<=>(const PortRange&) const = default;
};

} // namespace bulkhead

template <>
struct std::hash<bulkhead::IpAddress> {
    std::size_t operator()(const bulkhead::IpAddress& address) const noexcept
    {
        return std::hash<std::string_view>{}(
            std::string_view(reinterpret_cast<const char*>(address.bytes.data()), address.bytes.size()));
    }
};
