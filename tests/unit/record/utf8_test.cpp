// SPDX-License-Identifier: Apache-2.0
#include "common/record/utf8.h"
#include "sample.h"

#include <gtest/gtest.h>

namespace bulkhead::record
{
namespace
{

TEST(Utf8, TakesEveryLengthOfSequence)
{
    EXPECT_TRUE(is_utf8("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x9a\xa2\xf4\x8f\xbf\xbf"));
    EXPECT_TRUE(is_utf8("\xef\xbf\xbd")) << "a replacement character that is really there";
}

TEST(Utf8, RefusesWhatRfc3629Forbids)
{
    for (const char* text : {"\x80", "\xc3", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                             "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xff"}) {
        EXPECT_FALSE(is_utf8(text)) << testing::PrintToString(text);
        EXPECT_TRUE(is_utf8(to_utf8(text)));
    }
}

TEST(Utf8, RepairKeepsTheRest)
{
    EXPECT_EQ(to_utf8("a\xff\xc3\xbcz"), "a\xef\xbf\xbd\xc3\xbcz");
}

// protobuf writes such a string and then refuses to read it back.
TEST(Utf8, RepairedRecordCanBeReadBack)
{
    auto record = denied_attempt();
    const std::string bad = "x\xff";
    record.set_host(bad);
    record.mutable_src()->set_workload(bad);
    record.mutable_src()->add_segments(bad);
    (*record.mutable_src()->mutable_labels())[bad] = bad;
    record.mutable_process()->set_cmdline(bad);
    record.mutable_tcp()->set_state(bad);
    record.mutable_lost()->set_where(bad);
    record.mutable_audit()->set_message(bad);
    make_utf8(record);
    v1::Record back;
    ASSERT_TRUE(back.ParseFromString(record.SerializeAsString()));
    EXPECT_EQ(back.host(), "x\xef\xbf\xbd");
    EXPECT_EQ(back.src().labels().at("role"), "web");
    EXPECT_FALSE(denied_attempt().has_tcp()) << "repair must not make up parts";
}

} // namespace
} // namespace bulkhead::record
