// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/utf8.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

TEST(Utf8, ReplacesWhatIsNone)
{
    const std::string replaced = "\xef\xbf\xbd";
    EXPECT_EQ(as_utf8("gr\xc3\xbc\xc3\x9f\xe2\x82\xac\xf0\x9f\x98\x80\n"),
              "gr\xc3\xbc\xc3\x9f\xe2\x82\xac\xf0\x9f\x98\x80\n");
    EXPECT_EQ(as_utf8("a\xff"
                      "b"),
              "a" + replaced + "b");
    EXPECT_EQ(as_utf8("\xc0\xaf"), replaced + replaced);                // overlong '/'
    EXPECT_EQ(as_utf8("\xed\xa0\x80"), replaced + replaced + replaced); // surrogate
    EXPECT_EQ(as_utf8("x\xe2\x82"), "x" + replaced + replaced);         // cut short
    EXPECT_EQ(as_utf8(""), "");
}

TEST(Utf8, KeepsTheBeginning)
{
    EXPECT_EQ(beginning_of("/a/b", 4), "/a/b");
    EXPECT_EQ(beginning_of("/a/b/c", 4), "/a/b\xe2\x80\xa6");
    EXPECT_EQ(beginning_of("a\xc3\xa4\xc3\xa4", 4), "a\xc3\xa4\xe2\x80\xa6") << "no half character";
    EXPECT_EQ(beginning_of("abc", 0), "\xe2\x80\xa6");
}

TEST(Utf8, KeepsTheEnd)
{
    EXPECT_EQ(end_of("/a/b", 4), "/a/b");
    EXPECT_EQ(end_of("/a/b/c", 4), "\xe2\x80\xa6/b/c");
    EXPECT_EQ(end_of("\xc3\xa4\xc3\xa4z", 4), "\xe2\x80\xa6\xc3\xa4z") << "no half character";
    EXPECT_EQ(end_of("abc", 0), "\xe2\x80\xa6");
}

} // namespace
} // namespace bulkhead::agent
