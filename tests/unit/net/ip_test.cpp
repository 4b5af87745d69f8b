// SPDX-License-Identifier: Apache-2.0
#include "common/net/ip.h"

#include <gtest/gtest.h>

#include <unordered_set>

namespace bulkhead {
namespace {

IpAddress ip(const char* text)
{
    return IpAddress::parse(text).value();
}

Cidr cidr(const char* text)
{
    return Cidr::parse(text).value();
}

TEST(IpAddress, AMappedAddressIsTheV4Address)
{
    EXPECT_EQ(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
    EXPECT_EQ(ip("::ffff:c000:201"), ip("192.0.2.1"));
    EXPECT_TRUE(ip("::ffff:192.0.2.1").is_v4());
    EXPECT_FALSE(ip("::192.0.2.1").is_v4()) << "the deprecated compatible form is IPv6";
    EXPECT_EQ(ip("::ffff:192.0.2.1").to_string(), "192.0.2.1");
    EXPECT_EQ(IpAddress::from_v4(0xc0000201), ip("192.0.2.1"));
}

TEST(IpAddress, RefusesWhatIsNoAddress)
{
    for (const char* text : {"", "1.2.3", "1.2.3.4.5", "256.0.0.1", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4/8", "01.2.3.4x",
                             "g::1", "fe80::1%eth0", ":::", "1::2::3", "[::1]", "example.org", "0x7f000001", "12345::"})
        EXPECT_FALSE(IpAddress::parse(text).has_value()) << text;
    EXPECT_FALSE(IpAddress::parse(std::string_view("1.2.3.4\0x", 9)).has_value());
    EXPECT_FALSE(IpAddress::parse(std::string(10000, '1')).has_value());
}

TEST(IpAddress, IsWrittenAsRfc5952)
{
    EXPECT_EQ(ip("2001:0DB8:0000:0000:0001:0000:0000:0001").to_string(), "2001:db8::1:0:0:1");
    EXPECT_EQ(ip("::").to_string(), "::");
    EXPECT_EQ(ip("0:0:0:0:0:0:0:1").to_string(), "::1");
}

TEST(IpAddress, KnowsLoopbackAndUnspecified)
{
    for (const char* text : {"127.0.0.1", "127.255.255.255", "::1", "::ffff:127.1.2.3"})
        EXPECT_TRUE(ip(text).is_loopback()) << text;
    for (const char* text : {"128.0.0.1", "126.255.255.255", "::", "::2", "100::1", "::7f00:1"})
        EXPECT_FALSE(ip(text).is_loopback()) << text;
    EXPECT_TRUE(ip("0.0.0.0").is_unspecified());
    EXPECT_TRUE(ip("::").is_unspecified());
    EXPECT_FALSE(ip("0.0.0.1").is_unspecified());
    EXPECT_FALSE(ip("::1").is_unspecified());
}

TEST(IpAddress, HashesByValue)
{
    const std::unordered_set<IpAddress> set{ip("10.0.0.1"), ip("::ffff:10.0.0.1"), ip("::1")};
    EXPECT_EQ(set.size(), 2U);
}

TEST(Cidr, TellsHostBitsFromNonsense)
{
    Cidr::ParseError error{};
    for (const char* text :
         {"10.0.0.1/8", "10.0.0.1/31", "0.0.0.1/0", "2001:db8::1/64", "::1/0", "::ffff:10.0.0.1/104"}) {
        EXPECT_FALSE(Cidr::parse(text, &error).has_value()) << text;
        EXPECT_EQ(error, Cidr::ParseError::host_bits) << text;
    }
    for (const char* text :
         {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8x", "10.0.0.0/ 8",
          "10.0.0.0/8/8", "::/129", "::/4294967296", "10.0.0/8", "::ffff:10.0.0.0/95", "10.0.0.0/0x8"}) {
        EXPECT_FALSE(Cidr::parse(text, &error).has_value()) << text;
        EXPECT_EQ(error, Cidr::ParseError::malformed) << text;
    }
}

TEST(Cidr, ABareAddressIsOneHost)
{
    EXPECT_EQ(cidr("10.0.0.1"), cidr("10.0.0.1/32"));
    EXPECT_EQ(cidr("2001:db8::1"), cidr("2001:db8::1/128"));
    EXPECT_EQ(Cidr::host(ip("::ffff:10.0.0.1")), cidr("10.0.0.1/32"));
}

TEST(Cidr, AMappedPrefixIsTheV4Prefix)
{
    EXPECT_EQ(cidr("::ffff:10.0.0.0/104"), cidr("10.0.0.0/8"));
    EXPECT_EQ(cidr("::ffff:0:0/96"), cidr("0.0.0.0/0"));
    EXPECT_EQ(cidr("::ffff:10.0.0.1"), cidr("10.0.0.1/32"));
    EXPECT_EQ(cidr("10.0.0.0/8").mapped_length(), 104);
    EXPECT_EQ(cidr("2001:db8::/32").mapped_length(), 32);
}

TEST(Cidr, ContainsItsEdgesAndNothingBehindThem)
{
    const auto net = cidr("10.1.2.128/25");
    EXPECT_TRUE(net.contains(ip("10.1.2.128")));
    EXPECT_TRUE(net.contains(ip("10.1.2.255")));
    EXPECT_FALSE(net.contains(ip("10.1.2.127")));
    EXPECT_FALSE(net.contains(ip("10.1.3.0")));
    const auto v6 = cidr("2001:db8::8/125");
    EXPECT_TRUE(v6.contains(ip("2001:db8::f")));
    EXPECT_FALSE(v6.contains(ip("2001:db8::7")));
    EXPECT_FALSE(v6.contains(ip("2001:db8::10")));
}

TEST(Cidr, FamiliesDoNotContainEachOther)
{
    EXPECT_FALSE(cidr("::/0").contains(ip("10.0.0.1")));
    EXPECT_FALSE(cidr("::/80").contains(ip("10.0.0.1")));
    EXPECT_FALSE(cidr("0.0.0.0/0").contains(ip("2001:db8::1")));
    EXPECT_TRUE(cidr("0.0.0.0/0").contains(ip("255.255.255.255")));
    EXPECT_TRUE(cidr("::/0").contains(ip("ffff::")));
}

TEST(Cidr, ContainsNarrowerPrefixes)
{
    EXPECT_TRUE(cidr("10.0.0.0/8").contains(cidr("10.1.0.0/16")));
    EXPECT_TRUE(cidr("10.0.0.0/8").contains(cidr("10.0.0.0/8")));
    EXPECT_FALSE(cidr("10.0.0.0/8").contains(cidr("10.0.0.0/7")));
    EXPECT_FALSE(cidr("::/0").contains(cidr("10.0.0.0/8")));
}

TEST(Cidr, MaskingClearsHostBitsOnly)
{
    EXPECT_EQ((Cidr{ip("10.1.2.255"), 25}.masked()), cidr("10.1.2.128/25"));
    EXPECT_EQ((Cidr{ip("10.1.2.3"), 0}.masked()), cidr("0.0.0.0/0")) << "the mark of IPv4 stays";
    EXPECT_EQ((Cidr{ip("2001:db8:ffff::1"), 33}.masked()), cidr("2001:db8:8000::/33"));
    EXPECT_EQ((Cidr{ip("2001:db8::1"), 128}.masked()), cidr("2001:db8::1/128"));
}

TEST(Cidr, TextGoesBothWays)
{
    for (const char* text : {"0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "2001:db8::/32", "::1/128", "::/80"})
        EXPECT_EQ(cidr(text).to_string(), text);
}

TEST(PortRange, IncludesBothEnds)
{
    const PortRange range{80, 90};
    EXPECT_TRUE(range.contains(80));
    EXPECT_TRUE(range.contains(90));
    EXPECT_FALSE(range.contains(79));
    EXPECT_FALSE(range.contains(91));
    EXPECT_TRUE((PortRange{}.contains(0)));
    EXPECT_TRUE((PortRange{}.contains(65535)));
}

} // namespace
} // namespace bulkhead
