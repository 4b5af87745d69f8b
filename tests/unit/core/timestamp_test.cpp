// SPDX-License-Identifier: Apache-2.0
#include "common/core/clock.h"
#include "common/core/timestamp.h"

#include <gtest/gtest.h>

namespace bulkhead::record {
namespace {

TEST(Timestamp, ReadsWhatRfc3339Allows)
{
    EXPECT_EQ(parse_rfc3339_micros("1970-01-01T00:00:00Z"), 0);
    EXPECT_EQ(parse_rfc3339_micros("2026-11-21T01:43:59.000123Z"), 1'795'225'439'000'123);
    EXPECT_EQ(parse_rfc3339_micros("2026-11-21T02:43:59.000123+01:00"), 1'795'225'439'000'123);
    EXPECT_EQ(parse_rfc3339_micros("2026-11-20t20:13:59.000123999-05:30"), 1'795'225'439'000'123);
    EXPECT_EQ(parse_rfc3339_micros("1969-12-31T23:59:59.5Z"), -500'000);
    EXPECT_EQ(parse_rfc3339_micros("2024-02-29T00:00:00Z"), 1'709'164'800'000'000);
}

TEST(Timestamp, IsTheReverseOfFormat)
{
    for (const std::int64_t micros : {0LL, 1LL, -1LL, 1'795'225'439'000'123LL, 253'402'300'799'999'999LL})
        EXPECT_EQ(parse_rfc3339_micros(format_rfc3339_micros(micros)), micros);
}

TEST(Timestamp, RefusesTheRest)
{
    for (const char* text : {"", "2026-11-21", "2026-11-21T01:43:59", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
                             "2026-11-21T24:00:00Z", "2026-11-21T01:60:00Z", "2026-11-21T01:43:61Z",
                             "2026-11-21T01:43:59.Z", "2026-11-21T01:43:59Zx", "2026-11-21T01:43:59+0100",
                             "2026-11-21T01:43:59+24:00", "+026-11-21T01:43:59Z", "26-11-21T01:43:59Z"})
        EXPECT_FALSE(parse_rfc3339_micros(text)) << text;
}

} // namespace
} // namespace bulkhead::record
