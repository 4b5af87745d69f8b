// SPDX-License-Identifier: Apache-2.0
#include "common/policy/evaluate.h"
#include "common/policy/glob.h"

#include <gtest/gtest.h>

namespace bulkhead::policy {
namespace {

TEST(Glob, OneStarStaysInAFolderAndTwoDoNot)
{
    EXPECT_TRUE(glob_matches("/usr/*/nginx", "/usr/sbin/nginx"));
    EXPECT_FALSE(glob_matches("/usr/*", "/usr/sbin/nginx"));
    EXPECT_TRUE(glob_matches("/usr/**", "/usr/sbin/nginx"));
    EXPECT_TRUE(glob_matches("**/nginx", "/usr/sbin/nginx"));
    EXPECT_TRUE(glob_matches("/a*b*c", "/a-b-b-c"));
    EXPECT_TRUE(glob_matches("/a*", "/a"));
    EXPECT_TRUE(glob_matches("/**/x", "/a/b/x"));
    EXPECT_FALSE(glob_matches("/**/x", "/x"));
}

TEST(Glob, IsAboutTheWholePath)
{
    EXPECT_FALSE(glob_matches("/usr/bin/curl", "/usr/bin/curl2"));
    EXPECT_FALSE(glob_matches("/usr/bin/curl", "x/usr/bin/curl"));
    EXPECT_FALSE(glob_matches("", "/x"));
    EXPECT_TRUE(glob_matches("", ""));
    EXPECT_FALSE(glob_matches("/x", ""));
}

TEST(Glob, SetsQuestionMarksAndBackslashes)
{
    EXPECT_TRUE(glob_matches("/bin/[a-c]?", "/bin/bz"));
    EXPECT_FALSE(glob_matches("/bin/[!a-c]z", "/bin/bz"));
    EXPECT_TRUE(glob_matches("/bin/[]x]", "/bin/]"));
    EXPECT_TRUE(glob_matches("/bin/[a-]", "/bin/-"));
    EXPECT_FALSE(glob_matches("/bin?x", "/bin/x")) << "never a slash";
    EXPECT_FALSE(glob_matches("/bin[!a]x", "/bin/x")) << "never a slash";
    EXPECT_TRUE(glob_matches("/a\\*", "/a*"));
    EXPECT_FALSE(glob_matches("/a\\*", "/ab"));
}

TEST(Glob, SaysWhatIsWrong)
{
    EXPECT_EQ(glob_error("/a/[b"), "'[' without ']'");
    EXPECT_EQ(glob_error("/a\\"), "'\\' at the end");
    EXPECT_EQ(glob_error("/a/**/[b]"), "");
    EXPECT_FALSE(glob_matches("/a/[b", "/a/b"));
}

TEST(Glob, DoesNotBacktrackForEver)
{
    std::string pattern;
    for (int i = 0; i < 60; ++i)
        pattern += "*a";
    EXPECT_FALSE(glob_matches(pattern + "b", std::string(2000, 'a')));
}

TEST(Holds, EveryGivenKey)
{
    const ProcessFacts nginx{
        "/usr/sbin/nginx", "www-data", "abcdef0123456789", std::string(64, 'a'), {"system.slice", "nginx.service"}};
    EXPECT_TRUE(holds({}, nginx));
    ProcessCondition condition;
    condition.unit = "nginx.service";
    condition.exe = "/usr/sbin/*";
    condition.sha256 = std::string(64, 'a');
    condition.user = "www-data";
    condition.container = "abcdef012345";
    EXPECT_TRUE(holds(condition, nginx));
    for (auto key : {&ProcessCondition::unit, &ProcessCondition::exe, &ProcessCondition::sha256,
                     &ProcessCondition::user, &ProcessCondition::container}) {
        auto other = condition;
        other.*key = "x";
        EXPECT_FALSE(holds(other, nginx));
    }
    EXPECT_FALSE(holds(condition, ProcessFacts{})) << "an unknown process is no match";
}

} // namespace
} // namespace bulkhead::policy
