// SPDX-License-Identifier: Apache-2.0
// Who may take which places of a table for all (bpf/shares.h).
#include "tests/unit/bpf/shares.h"

#include "common/abi/bulkhead.h"

#include <gtest/gtest.h>

#include <array>
#include <bitset>
#include <set>

namespace bulkhead::test {
namespace {

constexpr unsigned run = 16;
using Places = std::bitset<run>;
using Address = std::array<unsigned char, 16>;

Places places(unsigned share)
{
    Places mine;
    for (unsigned place = 0; place < run; ++place)
        mine[place] = is_in_share(share, place) != 0;
    return mine;
}

Address ipv4(unsigned address)
{
    Address mapped{};
    mapped[10] = mapped[11] = 0xff;
    for (unsigned i = 0; i < 4; ++i)
        mapped[12 + i] = static_cast<unsigned char>(address >> (24 - 8 * i));
    return mapped;
}

Address ipv6(unsigned network, unsigned host)
{
    Address address{0x20, 0x01, 0x0d, 0xb8};
    for (unsigned i = 0; i < 4; ++i) {
        address[4 + i] = static_cast<unsigned char>(network >> (24 - 8 * i));
        address[12 + i] = static_cast<unsigned char>(host >> (24 - 8 * i));
    }
    return address;
}

TEST(Shares, RootHasAll)
{
    EXPECT_TRUE(places(share_of_user(0)).all());
}

TEST(Shares, EveryOtherUserAndEveryPeerHasThreeQuarters)
{
    for (unsigned i = 1; i < 70'000; ++i) {
        ASSERT_EQ(places(share_of_user(i)).count(), 12U) << i;
        ASSERT_EQ(places(share_of_peer(ipv4(i * 2'654'435'761U).data())).count(), 12U) << i;
        ASSERT_EQ(places(share_of_peer(ipv6(i, 1).data())).count(), 12U) << i;
    }
}

// Whoever logs in may have 65,536 users (subuid(5)).
TEST(Shares, AllWhoLogInLeaveTwoToEveryService)
{
    Places taken;
    for (unsigned uid = 1000; uid < 61'184; ++uid)
        taken |= places(share_of_user(uid));
    for (unsigned uid = 100'000; uid < 165'536; ++uid)
        taken |= places(share_of_user(uid));
    EXPECT_EQ(taken.count(), 14U);
    for (unsigned uid = 1; uid < 1000; ++uid)
        ASSERT_EQ((places(share_of_user(uid)) & ~taken).count(), 2U) << uid;
}

// Of a service's neighbours by number, none has all that he leaves to others.
TEST(Shares, OneServiceLeavesPlacesToMostOthers)
{
    unsigned alike = 0;
    for (unsigned uid = 1; uid < 1000; ++uid)
        if ((places(share_of_user(uid)) & ~places(share_of_user(33))).none())
            ++alike;
    EXPECT_LE(alike, 999U / 81 * 2) << "of 81 shares one is his";
}

TEST(Shares, AllAddressesOfAnIpv6NetworkLeavePlacesToOtherNetworks)
{
    for (unsigned network = 1; network <= 16; ++network) {
        Places taken;
        for (unsigned host = 1; host < 70'000; ++host)
            taken |= places(share_of_peer(ipv6(network, host).data()));
        ASSERT_EQ(taken.count(), 14U) << network;
        unsigned shut_out = 0;
        for (unsigned other = 1000; other < 2000; ++other)
            if ((places(share_of_peer(ipv6(other, 1).data())) & ~taken).none())
                ++shut_out;
        EXPECT_LT(shut_out, 1000 / 16 * 2) << network;
    }
}

TEST(Shares, NeighboursInAnIpv6NetworkHaveSharesOfTheirOwn)
{
    std::set<unsigned long> shares;
    for (unsigned host = 1; host < 1000; ++host)
        shares.insert(places(share_of_peer(ipv6(1, host).data())).to_ulong());
    EXPECT_EQ(shares.size(), 16U);
}

TEST(Shares, AQuestionAndItsAnswerGoEarlierThanWhatGoesOn)
{
    constexpr long long second = 1'000'000'000, longest = 120 * second;
    EXPECT_FALSE(may_go(0, BH_SHORT_IDLE_NS, longest));
    EXPECT_TRUE(may_go(0, BH_SHORT_IDLE_NS + 1, longest));
    EXPECT_FALSE(may_go(1, BH_SHORT_IDLE_NS + 1, longest));
    EXPECT_FALSE(may_go(1, longest, longest));
    EXPECT_TRUE(may_go(1, longest + 1, longest));
}

TEST(Shares, FourRunsAreTriedAndEachOfThemWhole)
{
    constexpr unsigned size = 1024;
    unsigned hand = 5 * run, at = 0;
    std::set<unsigned> tried;
    for (unsigned step = 0; step < 4 * run; ++step)
        tried.insert(place_to_try(&hand, &at, step, size, 0, 0xdeadbe00U + 32 * (step / run)));
    EXPECT_EQ(hand, 6 * run);
    ASSERT_EQ(tried.size(), 4 * run);
    for (unsigned place = 5 * run; place < 6 * run; ++place)
        EXPECT_TRUE(tried.contains(place)) << place;
    for (const auto place : tried)
        EXPECT_LT(place, size);
}

TEST(Shares, EveryRunHasItsTurn)
{
    constexpr unsigned size = 1024;
    unsigned hand = 0xffffffffU - 7 * run + 1; // it goes on where it overflows
    std::set<unsigned> runs;
    for (unsigned i = 0; i < size / run; ++i) {
        unsigned at = 0;
        runs.insert(place_to_try(&hand, &at, 0, size, 0, 0) / run);
    }
    EXPECT_EQ(runs.size(), size / run);
}

// Both have read the hand before either has moved it on, or a random run was the same.
TEST(Shares, TwoProcessorsAtOneRunBeginAtTwoPlaces)
{
    for (unsigned processor = 1; processor < run; ++processor) {
        unsigned one_hand = 0, other_hand = 0, one = 0, other = 0;
        for (unsigned step = 0; step < run; ++step)
            ASSERT_NE(place_to_try(&one_hand, &one, step, 1024, 0, 0),
                      place_to_try(&other_hand, &other, step, 1024, processor, 0))
                << processor << ' ' << step;
    }
}

} // namespace
} // namespace bulkhead::test
