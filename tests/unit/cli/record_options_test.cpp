// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/record_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::cli {
namespace {

constexpr std::int64_t now = 1'000'000'000'000'000;

v1::RecordQuery query_of(const RecordOptions& options)
{
    const auto query = make_query(options, now);
    EXPECT_TRUE(query) << query.error().message;
    return query.value_or(v1::RecordQuery());
}

TEST(RecordOptions, TimesAreAgoOrAbsolute)
{
    RecordOptions options;
    for (const auto& [text, seconds] :
         std::vector<std::pair<const char*, std::int64_t>>{{"90s", 90}, {"5m", 300}, {"2h", 7200}, {"7d", 604'800}}) {
        options.since = text;
        EXPECT_EQ(query_of(options).since_us(), now - seconds * 1'000'000) << text;
    }
    options.since = "2026-11-21T01:43:59.000123Z";
    EXPECT_EQ(query_of(options).since_us(), 1'795'225'439'000'123);
    for (const char* bad : {"5", "m", "-5m", "5w", "1.5h", "99999999999d", "2026-11-21"}) {
        options.since = bad;
        const auto query = make_query(options, now);
        ASSERT_FALSE(query) << bad;
        EXPECT_EQ(query.error().kind, ErrorKind::usage);
    }
}

TEST(RecordOptions, AScreenfulUnlessABoundIsGiven)
{
    RecordOptions options;
    EXPECT_EQ(query_of(options).last(), 20U);
    options.follow = true;
    EXPECT_EQ(query_of(options).last(), 10U);
    options.follow = false;
    options.since = "1h";
    EXPECT_EQ(query_of(options).last(), 0U) << "all of that hour";
    options.last = 3;
    EXPECT_EQ(query_of(options).last(), 3U);
}

TEST(RecordOptions, ViolationsAreDeniedAndWouldDeny)
{
    RecordOptions options;
    options.violations_only = true;
    EXPECT_THAT(query_of(options).filter().verdicts(),
                testing::ElementsAre(v1::Record::DENIED, v1::Record::WOULD_DENY));
    options.verdicts = {"denied"};
    EXPECT_THAT(query_of(options).filter().verdicts(), testing::ElementsAre(v1::Record::DENIED));
}

TEST(RecordOptions, FlowsLeaveOutAuditButNeverLoss)
{
    RecordOptions options;
    options.exclude = {"port=53"};
    EXPECT_THAT(query_of(options).filter().kinds(),
                testing::UnorderedElementsAre(v1::Record::FLOW, v1::Record::VIOLATION, v1::Record::GAP));
}

} // namespace
} // namespace bulkhead::cli
