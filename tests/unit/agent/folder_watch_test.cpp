// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/folder_watch.h"
#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <sys/stat.h>

namespace bulkhead::agent {
namespace {

namespace fs = std::filesystem;

class FolderWatchTest : public ::testing::Test {
protected:
    test::TempDir dir;
    std::string folder = dir.folder("policies");
    FolderWatch watch = *FolderWatch::create(folder);
};

TEST_F(FolderWatchTest, QuietWhenNothingHappens)
{
    EXPECT_FALSE(watch.read_events());
    EXPECT_FALSE(watch.check_folder());
}

TEST_F(FolderWatchTest, SeesAFileWrittenChangedRenamedAndRemoved)
{
    dir.file("policies/a.yaml", "1");
    EXPECT_TRUE(watch.read_events());
    dir.file("policies/a.yaml", "2");
    EXPECT_TRUE(watch.read_events());
    dir.file("policies/.a.swp", "3"); // vim: write aside, rename over
    watch.read_events();
    fs::rename(dir / "policies/.a.swp", dir / "policies/a.yaml");
    EXPECT_TRUE(watch.read_events());
    fs::remove(dir / "policies/a.yaml");
    EXPECT_TRUE(watch.read_events());
}

TEST_F(FolderWatchTest, FilesThatAreNoPolicyAreNoNews)
{
    dir.file("policies/.a.yaml.swp", "1");
    dir.file("policies/README", "1");
    EXPECT_FALSE(watch.read_events());
}

TEST_F(FolderWatchTest, SeesALinkSwapped)
{
    fs::create_symlink("one", dir / "policies/..data");
    EXPECT_TRUE(watch.read_events());
}

TEST_F(FolderWatchTest, SeesTheFolderRemovedAndMadeAgain)
{
    fs::remove_all(folder);
    EXPECT_TRUE(watch.read_events());
    EXPECT_TRUE(watch.check_folder());
    EXPECT_FALSE(watch.check_folder()); // says so once
    dir.file("policies/a.yaml", "1");
    EXPECT_TRUE(watch.check_folder());
    watch.read_events();
    dir.file("policies/a.yaml", "2"); // and it follows the new one
    EXPECT_TRUE(watch.read_events());
}

TEST_F(FolderWatchTest, SeesAnotherFolderUnderTheSameName)
{
    dir.file("next/a.yaml", "1");
    fs::rename(folder, dir / "old");
    fs::rename(dir / "next", folder);
    EXPECT_TRUE(watch.check_folder());
    watch.read_events();
    dir.file("policies/a.yaml", "2");
    EXPECT_TRUE(watch.read_events());
}

TEST(FolderWatch, TheFolderMayComeLater)
{
    const test::TempDir dir;
    auto watch = *FolderWatch::create(dir / "later");
    EXPECT_FALSE(watch.check_folder());
    dir.folder("later");
    EXPECT_TRUE(watch.check_folder());
}

} // namespace
} // namespace bulkhead::agent
