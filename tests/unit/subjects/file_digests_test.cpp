// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/file_digests.h"

#include "common/core/unique_fd.h"
#include "tests/harness/temp_dir.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>

namespace bulkhead::test {
namespace {

using agent::FileDigests;
using agent::FileIdentity;
using Party = FileDigests::Party;
using namespace std::chrono_literals;

const std::string mountinfo = "/proc/self/mountinfo";
constexpr Party root = FileDigests::root, somebody{0, 1000}, another{0, 1001};
constexpr const char* digest_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr long gibibyte = 1L << 30;

class Digests : public ::testing::Test {
protected:
    FileIdentity want(const std::string& path, const Party& whose)
    {
        const auto file = agent::identify_file(path, mountinfo).value();
        digests.want(file, path, mountinfo, whose);
        return file;
    }
    // However long others take.
    void wait_for(const FileIdentity& file, std::chrono::milliseconds at_a_time = 1s)
    {
        for (int i = 0; i < 600 && digests.is_unread(file); ++i)
            digests.wait(at_a_time);
    }
    // Of nothing, which takes no disk, but time.
    std::string large(const std::string& name) const
    {
        auto path = folder.file(name, "");
        EXPECT_EQ(::truncate(path.c_str(), gibibyte), 0);
        return path;
    }

    const TempDir folder;
    FileDigests digests;
};

TEST_F(Digests, AreThoseOfSha256sum)
{
    const auto file = want(folder.file("a", "abc"), somebody);
    digests.wait(60s);
    EXPECT_EQ(digests.of(file), digest_of_abc);
    EXPECT_FALSE(digests.is_unread(file));
}

TEST_F(Digests, OfMoreThanIsReadInATurn)
{
    const auto file = want(folder.file("a", std::string(9'000'000, 'a')), root);
    digests.wait(60s);
    // head -c 9000000 /dev/zero | tr '\0' a | sha256sum
    EXPECT_EQ(digests.of(file), "6a04ab516c166c874f1ed30eecfe2c600147179bb8b192fa9ad6320bff925dc6");
}

// Whoever may write to the folder puts something else in the file's place after it was looked at.
TEST_F(Digests, AnotherFileInItsPlaceHoldsNobodyUp)
{
    const auto path = folder.file("a", "abc");
    const auto file = agent::identify_file(path, mountinfo).value();
    ASSERT_EQ(::unlink(path.c_str()), 0);
    ASSERT_EQ(::mkfifo(path.c_str(), 0700), 0);
    digests.want(file, path, mountinfo, root);
    digests.wait(60s);
    EXPECT_FALSE(digests.of(file));
    EXPECT_FALSE(digests.is_unread(file));
    ASSERT_EQ(::unlink(path.c_str()), 0);
    (void)folder.file("a", "longer than it was");
    digests.want(file, path, mountinfo, root);
    digests.wait(60s);
    EXPECT_FALSE(digests.of(file));
}

TEST_F(Digests, WhatCouldNotBeReadIsReadWhenItIsWantedAgain)
{
    const auto path = folder.file("a", "abc");
    const auto file = agent::identify_file(path, mountinfo).value();
    digests.want(file, folder / "nothing", mountinfo, root);
    digests.wait(60s);
    EXPECT_FALSE(digests.of(file));
    digests.want(file, path, mountinfo, root);
    digests.wait(60s);
    EXPECT_EQ(digests.of(file), digest_of_abc);
}

TEST_F(Digests, LargeFilesOfOthersHoldRootsNotUp)
{
    const auto theirs = want(large("theirs"), somebody);
    const auto own = want(folder.file("own", "abc"), root);
    digests.wait(500ms); // of which it waits a tenth for the others
    EXPECT_EQ(digests.of(own), digest_of_abc);
    EXPECT_TRUE(digests.is_unread(theirs));
}

TEST_F(Digests, LargeFilesOfOneHoldAnothersNotUp)
{
    const auto theirs = want(large("a"), somebody);
    const auto small = want(folder.file("b", "abc"), another);
    wait_for(small);
    EXPECT_EQ(digests.of(small), digest_of_abc);
    EXPECT_TRUE(digests.is_unread(theirs));
}

TEST_F(Digests, LargeFilesOfRootDoNotHoldOthersUp)
{
    const auto large_one = want(large("a"), root);
    const auto small = want(folder.file("b", "abc"), somebody);
    wait_for(small, 10ms);
    EXPECT_EQ(digests.of(small), digest_of_abc);
    EXPECT_TRUE(digests.is_unread(large_one));
}

TEST_F(Digests, OfOnePartyTheSmallestComesFirst)
{
    const auto blocked = want(large("a"), somebody), other = want(large("b"), somebody);
    const auto small = want(folder.file("c", "abc"), somebody);
    wait_for(small);
    EXPECT_EQ(digests.of(small), digest_of_abc);
    EXPECT_TRUE(digests.is_unread(blocked) || digests.is_unread(other)) << "one may have been begun";
}

TEST_F(Digests, WhatTurnsOutToBeRootsIsReadAsRoots)
{
    const auto theirs = want(large("theirs"), somebody);
    const auto path = folder.file("b", "abc");
    want(path, somebody);
    const auto own = want(path, root);
    digests.wait(500ms);
    EXPECT_EQ(digests.of(own), digest_of_abc);
    EXPECT_TRUE(digests.is_unread(theirs));
}

// Found by the glob, and run by a process.
TEST_F(Digests, WhatIsRootsStaysRoots)
{
    const auto theirs = want(large("theirs"), somebody);
    const auto path = folder.file("b", "abc");
    want(path, root);
    const auto own = want(path, somebody);
    digests.wait(500ms);
    EXPECT_EQ(digests.of(own), digest_of_abc);
    EXPECT_TRUE(digests.is_unread(theirs));
}

TEST_F(Digests, OneWayThatLeadsNowhereDoesNotKeepItFromBeingReadByAnother)
{
    const auto path = folder.file("b", "abc");
    const auto file = agent::identify_file(path, mountinfo).value();
    for (const auto& way : {folder / "a", path, folder / "c"})
        digests.want(file, way, mountinfo, root);
    digests.wait(60s);
    EXPECT_EQ(digests.of(file), digest_of_abc);
}

TEST_F(Digests, WhatIsOpenForWritingIsNotRead)
{
    const auto path = folder.file("a", "abc");
    UniqueFd writer(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    const auto file = want(path, root);
    digests.wait(60s);
    EXPECT_FALSE(digests.of(file));
    EXPECT_FALSE(digests.is_unread(file));
    writer.reset();
    want(path, root);
    digests.wait(60s);
    EXPECT_EQ(digests.of(file), digest_of_abc);
}

// A page that was written to before is written to again, and no time stamp says so.
TEST_F(Digests, WhatIsMappedForWritingIsNotRead)
{
    const auto path = folder.file("a", "xyz");
    UniqueFd writer(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    auto* const page = static_cast<char*>(::mmap(nullptr, 3, PROT_READ | PROT_WRITE, MAP_SHARED, writer.get(), 0));
    ASSERT_NE(page, MAP_FAILED);
    writer.reset();
    std::memcpy(page, "def", 3);
    const auto file = want(path, root);
    digests.wait(60s);
    EXPECT_FALSE(digests.of(file));
    std::memcpy(page, "abc", 3);
    ASSERT_EQ(::munmap(page, 3), 0);
    ASSERT_EQ(want(path, root), file) << "else there is nothing to test here";
    digests.wait(60s);
    EXPECT_EQ(digests.of(file), digest_of_abc);
}

TEST_F(Digests, WhatNobodyWantsAnyMoreIsNotReadToItsEnd)
{
    const auto file = want(large("a"), somebody);
    for (int i = 0; i < 5; ++i) {
        EXPECT_TRUE(digests.is_unread(file));
        digests.forget_unwanted();
    }
    EXPECT_FALSE(digests.is_unread(file));
    const auto other = want(folder.file("b", "abc"), somebody);
    digests.wait(60s);
    EXPECT_EQ(digests.of(other), digest_of_abc);
}

TEST_F(Digests, AreKeptWhileSomebodyWantsThemNowAndThen)
{
    const auto path = folder.file("a", "abc");
    const auto file = want(path, root);
    digests.wait(60s);
    for (int i = 0; i < 10; ++i) {
        digests.forget_unwanted();
        digests.forget_unwanted();
        digests.want(file, path, mountinfo, root);
        EXPECT_EQ(digests.of(file), digest_of_abc);
    }
    for (int i = 0; i < 601; ++i)
        digests.forget_unwanted();
    EXPECT_FALSE(digests.of(file));
}

TEST_F(Digests, AFileAboveOneGibibyteIsNotRead)
{
    const auto path = large("a");
    ASSERT_EQ(::truncate(path.c_str(), gibibyte + 1), 0);
    const auto file = want(path, root);
    EXPECT_FALSE(digests.is_unread(file));
    EXPECT_FALSE(digests.of(file));
}

TEST(FileDigests, EndWhileTheyRead)
{
    const TempDir folder;
    const auto path = folder.file("a", "");
    ASSERT_EQ(::truncate(path.c_str(), gibibyte), 0);
    const auto file = agent::identify_file(path, mountinfo).value();
    for (const auto whose : {root, somebody}) {
        FileDigests digests;
        digests.want(file, path, mountinfo, whose);
        digests.wait(20ms);
        EXPECT_TRUE(digests.is_unread(file));
    }
}

} // namespace
} // namespace bulkhead::test
