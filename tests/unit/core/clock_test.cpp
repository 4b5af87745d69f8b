// SPDX-License-Identifier: Apache-2.0
#include "common/core/clock.h"

#include <gtest/gtest.h>

namespace bulkhead {
namespace {

TEST(Rfc3339, IsUtcWithMicroseconds)
{
    EXPECT_EQ(format_rfc3339_micros(0), "1970-01-01T00:00:00.000000Z");
    EXPECT_EQ(format_rfc3339_micros(1'795'225'439'000'123), "2026-11-21T01:43:59.000123Z");
    EXPECT_EQ(format_rfc3339_micros(951'782'400'000'000), "2000-02-29T00:00:00.000000Z");
    EXPECT_EQ(format_rfc3339_micros(253'402'300'799'999'999), "9999-12-31T23:59:59.999999Z");
}

TEST(Rfc3339, BeforeTheEpoch)
{
    EXPECT_EQ(format_rfc3339_micros(-1), "1969-12-31T23:59:59.999999Z");
    EXPECT_EQ(format_rfc3339_micros(-1'000'000), "1969-12-31T23:59:59.000000Z");
}

TEST(Rfc3339, NanosecondsAreCut)
{
    EXPECT_EQ(format_rfc3339(WallTime(std::chrono::nanoseconds(1'999'999'999))), "1970-01-01T00:00:01.999999Z");
}

// Years that calendars cannot hold come from the wire, not from clocks: no crash and no exception.
TEST(Rfc3339, SurvivesAnyNumber)
{
    for (const auto micros : {INT64_MIN, INT64_MIN + 1, INT64_MAX, INT64_MAX - 1})
        EXPECT_FALSE(format_rfc3339_micros(micros).empty());
}

TEST(SystemClock, GoesForward)
{
    const auto& clock = system_clock();
    const auto before = clock.monotonic();
    EXPECT_GE(clock.monotonic(), before);
    EXPECT_GT(clock.wall().time_since_epoch().count(), 0);
}

} // namespace
} // namespace bulkhead
