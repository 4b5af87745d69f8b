// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/program_finder.h"
#include "tests/harness/fake_clock.h"
#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class Finder : public ::testing::Test {
protected:
    std::vector<std::string> find(const std::string& pattern)
    {
        auto paths = finder.find(root / pattern).paths;
        for (auto& path : paths)
            path = fs::path(path).lexically_relative(root.path()).string();
        return paths;
    }
    using Paths = std::vector<std::string>;

    test::TempDir root;
    ProgramFinder finder{system_clock()};
};

TEST_F(Finder, ALiteralIsItself)
{
    EXPECT_EQ(find("bin/not-there"), Paths{"bin/not-there"});
}

TEST_F(Finder, AStarStaysInItsFolder)
{
    root.file("bin/python3.10", "");
    root.file("bin/python3.11", "");
    root.file("bin/python3/inner", "");
    root.file("bin/perl", "");
    EXPECT_EQ(find("bin/python*"), (Paths{"bin/python3", "bin/python3.10", "bin/python3.11"}));
    EXPECT_EQ(find("*/perl"), Paths{"bin/perl"});
    EXPECT_EQ(find("bin/python3.1[0-9]"), (Paths{"bin/python3.10", "bin/python3.11"}));
    EXPECT_EQ(find("bin/p?rl"), Paths{"bin/perl"});
    EXPECT_EQ(find("bin/per\\l"), Paths{"bin/perl"});
    EXPECT_TRUE(find("sbin/*").empty());
}

TEST_F(Finder, TwoStarsReachEverythingBelow)
{
    root.file("opt/app/bin/tool", "");
    root.file("opt/app/v2/deep/bin/tool", "");
    root.file("opt/other/tool", "");
    EXPECT_EQ(find("opt/**/bin/tool"), (Paths{"opt/app/bin/tool", "opt/app/v2/deep/bin/tool"}));
    EXPECT_EQ(find("opt/app/**").size(), 2U);
}

TEST_F(Finder, FollowsNamedFoldersButNoLoops)
{
    root.file("real/bin/tool", "");
    fs::create_directory_symlink("real", root / "link");
    fs::create_directory_symlink("..", root / "real/loop");
    EXPECT_EQ(find("link/bin/t*"), Paths{"link/bin/tool"});
    EXPECT_EQ(find("*/bin/tool"), (Paths{"link/bin/tool", "real/bin/tool"}));
    EXPECT_EQ(find("real/**/tool"), Paths{"real/bin/tool"});
}

TEST_F(Finder, SeesWhatComesAndGoes)
{
    EXPECT_TRUE(find("bin/a*").empty());
    root.file("bin/a1", "");
    EXPECT_EQ(find("bin/a*"), Paths{"bin/a1"});
    root.file("bin/a2", ""); // within one tick of the file system's clock
    EXPECT_EQ(find("bin/a*"), (Paths{"bin/a1", "bin/a2"}));
    fs::remove(root / "bin/a1");
    EXPECT_EQ(find("bin/a*"), Paths{"bin/a2"});
    fs::remove_all(root / "bin");
    EXPECT_TRUE(find("bin/a*").empty());
}

TEST_F(Finder, IsBounded)
{
    for (int i = 0; i < 8200; ++i)
        root.file("many/f" + std::to_string(i), "");
    const auto& found = finder.find(root / "many/*");
    EXPECT_EQ(found.paths.size(), 8192U);
    EXPECT_FALSE(found.complete);
}

TEST(ProgramFinder, ARelativePatternNamesNothing)
{
    ProgramFinder finder(system_clock());
    EXPECT_TRUE(finder.find("bin/*").paths.empty());
    EXPECT_TRUE(finder.find("").paths.empty());
}

} // namespace
} // namespace bulkhead::agent
