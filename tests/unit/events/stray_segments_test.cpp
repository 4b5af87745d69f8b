// SPDX-License-Identifier: Apache-2.0
#include "agent/events/stray_segments.h"

#include <gtest/gtest.h>

#include <utility>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

FlowTuple tuple(std::uint32_t number)
{
    return {IpAddress::from_v4(1), IpAddress::from_v4(number), 1, 2, 6};
}

TEST(StraySegments, AreRememberedForHoursFromTheLastEnd)
{
    StraySegments strays;
    strays.ended(tuple(1), 100s);
    strays.ended(tuple(1), 130s);
    strays.expire(130s + 8h);
    EXPECT_TRUE(strays.is_tail(tuple(1), 130s + 8h, false));
    EXPECT_FALSE(strays.is_tail(tuple(1), 131s + 8h, false));
    EXPECT_FALSE(strays.is_tail(tuple(2), 170s, false));
    auto elsewhere = tuple(1);
    elsewhere.netns = 4'026'532'000;
    EXPECT_FALSE(strays.is_tail(elsewhere, 170s, false));
}

TEST(StraySegments, AreRememberedForAMinuteWhereSomebodyHears)
{
    StraySegments strays;
    strays.ended(tuple(1), 100s);
    strays.ended(tuple(2), 108s);
    EXPECT_TRUE(strays.is_tail(tuple(1), 160s, true));
    EXPECT_FALSE(strays.is_tail(tuple(1), 161s, true));
    EXPECT_TRUE(strays.is_tail(tuple(2), 168s, true));
    strays.expire(170s);
    EXPECT_FALSE(strays.is_tail(tuple(2), 170s, true));
    EXPECT_TRUE(strays.is_tail(tuple(2), 170s, false));
}

TEST(StraySegments, OldOnesAreForgottenByTheQuarterOfAnHour)
{
    StraySegments strays;
    for (std::chrono::seconds time = 0s; time < 12h; time += 1s) {
        strays.ended(tuple(static_cast<std::uint32_t>(time.count())), time);
        strays.ended(tuple(1'000'000), time);
    }
    for (std::chrono::seconds time = 4h; time < 12h; time += 1s)
        ASSERT_TRUE(strays.is_tail(tuple(static_cast<std::uint32_t>(time.count())), 12h, false)) << time.count();
    for (std::chrono::seconds time = 0s; time < 3h + 45min; time += 1s)
        ASSERT_FALSE(strays.is_tail(tuple(static_cast<std::uint32_t>(time.count())), 12h, false)) << time.count();
    EXPECT_TRUE(strays.is_tail(tuple(1'000'000), 12h, true));
}

TEST(StraySegments, TheOldestGoFirstWhenThereAreTooMany)
{
    StraySegments strays;
    for (std::uint32_t i = 0; i <= 131072; ++i)
        strays.ended(tuple(i), 100s);
    EXPECT_FALSE(strays.is_tail(tuple(0), 100s, false));
    EXPECT_TRUE(strays.is_tail(tuple(131072), 100s, false));
}

TEST(StraySegments, BothEndsCount)
{
    StraySegments strays;
    auto other = tuple(7);
    strays.ended(other, 1s);
    EXPECT_TRUE(strays.is_tail(tuple(7), 2s, false));
    ++other.local_port;
    EXPECT_FALSE(strays.is_tail(other, 2s, false));
    other = tuple(7);
    std::swap(other.local, other.remote);
    EXPECT_FALSE(strays.is_tail(other, 2s, false));
    other = tuple(7);
    std::swap(other.local_port, other.remote_port);
    EXPECT_FALSE(strays.is_tail(other, 2s, false));
}

TEST(StraySegments, AMinuteOfConnectionsIsKeptWhole)
{
    StraySegments strays;
    for (std::uint32_t i = 0; i < 120'000; ++i)
        strays.ended(tuple(i), std::chrono::milliseconds(i / 2));
    for (std::uint32_t i = 0; i < 120'000; ++i)
        ASSERT_TRUE(strays.is_tail(tuple(i), 60s, true)) << i;
    for (std::uint32_t i = 120'000; i < 240'000; ++i)
        ASSERT_FALSE(strays.is_tail(tuple(i), 60s, true)) << i;
    strays.expire(121s);
    EXPECT_FALSE(strays.is_tail(tuple(119'999), 121s, true));
}

} // namespace
} // namespace bulkhead::agent
