// SPDX-License-Identifier: Apache-2.0
#include "common/net/community_id.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <unistd.h>

namespace bulkhead {
namespace {

struct Vector {
    std::uint8_t protocol;
    const char* source;
    std::uint16_t source_port;
    const char* destination;
    std::uint16_t destination_port;
    const char* id;
};

// Of the specification's baseline (https://github.com/corelight/community-id-spec, seed 0).
constexpr Vector published[] = {
    {6, "128.232.110.120", 34855, "66.35.250.204", 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
    {17, "192.168.1.52", 54585, "8.8.8.8", 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
    {132, "192.168.170.8", 7, "192.168.170.56", 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="},
    {6, "2001:470:e5bf:dead:4957:2174:e82c:4887", 63943, "2607:f8b0:400c:c03::1a", 25,
     "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="},
};

TEST(CommunityId, MatchesThePublishedVectorsInBothDirections)
{
    for (const auto& v : published) {
        const auto source = IpAddress::parse(v.source).value();
        const auto destination = IpAddress::parse(v.destination).value();
        EXPECT_EQ(community_id_v1(v.protocol, source, v.source_port, destination, v.destination_port), v.id);
        EXPECT_EQ(community_id_v1(v.protocol, destination, v.destination_port, source, v.source_port), v.id);
    }
}

TEST(CommunityId, MappedAddressesGiveTheIdOfIpv4)
{
    EXPECT_EQ(community_id_v1(6, IpAddress::parse("::ffff:128.232.110.120").value(), 34855,
                              IpAddress::parse("66.35.250.204").value(), 80),
              published[0].id);
}

TEST(CommunityId, PortsOrderTwoEndsOnOneAddress)
{
    const auto self = IpAddress::parse("10.0.0.1").value();
    EXPECT_EQ(community_id_v1(6, self, 1, self, 2), community_id_v1(6, self, 2, self, 1));
    EXPECT_NE(community_id_v1(6, self, 1, self, 2), community_id_v1(6, self, 1, self, 3));
    EXPECT_NE(community_id_v1(6, self, 1, self, 2), community_id_v1(17, self, 1, self, 2));
}

// In a process of its own: the algorithm is looked up once.
TEST(CommunityId, IsLeftOutWhereOpensslOffersNoSha1)
{
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto self = IpAddress::parse("10.0.0.1").value();
    EXPECT_EXIT(
        {
            const bool set = ::EVP_set_default_properties(nullptr, "provider=none-of-that-name") == 1;
            ::_exit(set && community_id_v1(6, self, 1, self, 2).empty() ? 0 : 1);
        },
        testing::ExitedWithCode(0), "");
}

} // namespace
} // namespace bulkhead
