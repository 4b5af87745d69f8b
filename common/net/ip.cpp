// SPDX-License-Identifier: Apache-2.0
#include "common/net/ip.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace bulkhead {
namespace {

constexpr std::array<std::uint8_t, 12> v4_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool same_bits(const IpAddress& a, const IpAddress& b, unsigned bits)
{
    const unsigned whole = bits / 8;
    if (!std::equal(a.bytes.begin(), a.bytes.begin() + whole, b.bytes.begin()))
        return false;
    const unsigned rest = bits % 8;
    return rest == 0 || ((a.bytes[whole] ^ b.bytes[whole]) >> (8 - rest)) == 0;
}

} // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text)
{
    const std::string terminated(text);
    if (terminated.size() != text.size() || terminated.find('\0') != std::string::npos)
        return std::nullopt;
    IpAddress address;
    in_addr v4{};
    if (::inet_pton(AF_INET, terminated.c_str(), &v4) == 1)
        return from_v4(ntohl(v4.s_addr));
    if (::inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) == 1)
        return address;
    return std::nullopt;
}

IpAddress IpAddress::from_v4(std::uint32_t host_order)
{
    IpAddress address;
    std::copy(v4_prefix.begin(), v4_prefix.end(), address.bytes.begin());
    for (unsigned i = 0; i < 4; ++i)
        address.bytes[12 + i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
    return address;
}

bool IpAddress::is_v4() const
{
    return std::equal(v4_prefix.begin(), v4_prefix.end(), bytes.begin());
}

bool IpAddress::is_loopback() const
{
    if (is_v4())
        return bytes[12] == 127;
    return std::all_of(bytes.begin(), bytes.end() - 1, [](auto b) { return b == 0; }) && bytes[15] == 1;
}

bool IpAddress::is_unspecified() const
{
    const auto begin = is_v4() ? bytes.begin() + 12 : bytes.begin();
    return std::all_of(begin, bytes.end(), [](auto b) { return b == 0; });
}

std::string IpAddress::to_string() const
{
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (is_v4())
        ::inet_ntop(AF_INET, bytes.data() + 12, text.data(), text.size());
    else
        ::inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
    return text.data();
}

std::optional<Cidr> Cidr::parse(std::string_view text, ParseError* error)
{
    if (error != nullptr)
        *error = ParseError::malformed;
    const auto slash = text.find('/');
    const auto address = IpAddress::parse(text.substr(0, slash));
    if (!address)
        return std::nullopt;
    // "::ffff:10.0.0.0/104" is written in IPv6 and counts IPv6's bits; it is the IPv4 prefix 10.0.0.0/8.
    const bool written_v6 = text.substr(0, slash).find(':') != std::string_view::npos;
    unsigned length = address->is_v4() ? 32 : 128;
    if (slash != std::string_view::npos) {
        const auto digits = text.substr(slash + 1);
        const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
        if (digits.empty() || digits[0] == '+' || code != std::errc{} || end != digits.data() + digits.size())
            return std::nullopt;
        if (written_v6 && address->is_v4()) {
            if (length < 96)
                return std::nullopt;
            length -= 96;
        }
        if (length > (address->is_v4() ? 32U : 128U))
            return std::nullopt;
    }
    const Cidr cidr{*address, static_cast<std::uint8_t>(length)};
    if (cidr.masked() != cidr) {
        if (error != nullptr)
            *error = ParseError::host_bits;
        return std::nullopt;
    }
    return cidr;
}

Cidr Cidr::host(const IpAddress& address)
{
    return {address, static_cast<std::uint8_t>(address.is_v4() ? 32 : 128)};
}

bool Cidr::is_loopback() const
{
    return address.is_loopback() && length >= (address.is_v4() ? 8 : 128);
}

std::uint8_t Cidr::mapped_length() const
{
    return static_cast<std::uint8_t>(address.is_v4() ? length + 96 : length);
}

bool Cidr::contains(const IpAddress& other) const
{
    return address.is_v4() == other.is_v4() && same_bits(address, other, mapped_length());
}

bool Cidr::contains(const Cidr& other) const
{
    return length <= other.length && contains(other.address);
}

Cidr Cidr::masked() const
{
    Cidr result = *this;
    const unsigned bits = mapped_length();
    for (unsigned i = 0; i < 16; ++i) {
        const unsigned start = 8 * i;
        if (start >= bits)
            result.address.bytes[i] = 0;
        else if (start + 8 > bits)
            result.address.bytes[i] &= static_cast<std::uint8_t>(0xff << (8 - (bits - start)));
    }
    if (address.is_v4()) // a short IPv4 prefix must not eat the ::ffff: that marks it
        std::copy(v4_prefix.begin(), v4_prefix.end(), result.address.bytes.begin());
    return result;
}

std::string Cidr::to_string() const
{
    return address.to_string() + "/" + std::to_string(length);
}

} // namespace bulkhead
