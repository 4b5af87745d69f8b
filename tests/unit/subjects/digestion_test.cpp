// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/digestion.h"

#include "tests/harness/temp_dir.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

namespace bulkhead::test {
namespace {

using agent::Digestion;

constexpr const char* digest_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const std::string mountinfo = "/proc/self/mountinfo";

agent::FileIdentity identity(const std::string& path)
{
    return agent::identify_file(path, mountinfo).value();
}

std::optional<std::string> end_of(Digestion& digestion)
{
    const std::atomic<bool> stop = false;
    while (!digestion.read_on(stop))
        ;
    return digestion.digest();
}

TEST(Digestion, IsThatOfSha256sum)
{
    const TempDir folder;
    const auto path = folder.file("a", "abc");
    Digestion digestion(identity(path), {path, mountinfo});
    EXPECT_EQ(end_of(digestion), digest_of_abc);
}

// Of the same size; and what was looked at is there again before it ends.
TEST(Digestion, IsNotOfAnotherFileThatLiesThereForAMoment)
{
    const TempDir folder;
    const auto evil = folder.file("evil", "evl"), good = folder.file("good", "abc"), link = folder / "link";
    ASSERT_EQ(::symlink(evil.c_str(), link.c_str()), 0);
    const auto looked_at = identity(link);
    ASSERT_EQ(::unlink(link.c_str()), 0);
    ASSERT_EQ(::symlink(good.c_str(), link.c_str()), 0);
    Digestion digestion(looked_at, {link, mountinfo});
    ASSERT_EQ(::unlink(link.c_str()), 0);
    ASSERT_EQ(::symlink(evil.c_str(), link.c_str()), 0);
    EXPECT_FALSE(end_of(digestion));
}

// A process has ended, whose link was opened.
TEST(Digestion, IsThatOfWhatWasOpenedWhateverLiesThereByNow)
{
    const TempDir folder;
    const auto path = folder.file("a", "abc"), link = folder / "link";
    ASSERT_EQ(::symlink(path.c_str(), link.c_str()), 0);
    Digestion digestion(identity(path), {link, mountinfo});
    ASSERT_EQ(::unlink(link.c_str()), 0);
    EXPECT_EQ(end_of(digestion), digest_of_abc);
}

TEST(Digestion, OpensNothingButARegularFile)
{
    const TempDir folder;
    const auto fifo = folder / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0700), 0);
    Digestion digestion(identity(fifo), {fifo, mountinfo});
    EXPECT_FALSE(end_of(digestion));
    EXPECT_LT(::open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC), 0) << "nobody reads it";
}

TEST(Digestion, IsNoneOfWhatChangesMeanwhile)
{
    const TempDir folder;
    const auto path = folder.file("a", "abc");
    Digestion digestion(identity(path), {path, mountinfo});
    (void)folder.file("a", "def");
    EXPECT_FALSE(end_of(digestion));
    (void)folder.file("a", "longer");
    Digestion second(identity(path), {path, mountinfo});
    (void)folder.file("a", "longer and longer");
    EXPECT_FALSE(end_of(second));
}

// A second change within a tick of the clock has the same time stamp.
TEST(Digestion, WaitsUntilAChangeWouldShow)
{
    const TempDir folder;
    for (int i = 0; i < 20; ++i) {
        const auto path = folder.file("a", "abc");
        const auto before = identity(path);
        Digestion digestion(before, {path, mountinfo});
        (void)folder.file("a", "def");
        EXPECT_NE(identity(path), before);
        EXPECT_FALSE(end_of(digestion));
    }
}

// A mapping outlives the descriptor, and in an overlay only the file below knows of it.
TEST(Digestion, OfAnOverlaysFileShowsWhatIsChangedThroughAMapping)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "needs root: mounts an overlay";
    std::thread([] {
        const TempDir folder;
        const std::string there = "/proc/thread-self/mountinfo", merged = folder.folder("merged");
        const auto parts = "lowerdir=" + folder.folder("lower") + ",upperdir=" + folder.folder("upper") +
                           ",workdir=" + folder.folder("work");
        ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
        ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
        if (::mount("overlay", merged.c_str(), "overlay", 0, parts.c_str()) != 0)
            GTEST_SKIP() << "no overlay here";
        const auto path = folder.file("merged/a", "abc");
        UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        auto* bytes = static_cast<char*>(::mmap(nullptr, 3, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
        ASSERT_NE(bytes, MAP_FAILED);
        bytes[0] = 'a'; // from now on, no fault tells of a change
        file.reset();
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        const auto looked_at = agent::identify_file(path, there);
        ASSERT_TRUE(looked_at);
        Digestion digestion(*looked_at, {path, there});
        bytes[0] = 'x';
        EXPECT_FALSE(end_of(digestion));
        ::munmap(bytes, 3);
        ASSERT_EQ(::umount2(merged.c_str(), MNT_DETACH), 0);
    }).join();
}

TEST(Digestion, StopsWhenItIsTold)
{
    const TempDir folder;
    const auto path = folder.file("a", "abc");
    Digestion digestion(identity(path), {path, mountinfo});
    EXPECT_FALSE(digestion.read_on(true));
    EXPECT_EQ(end_of(digestion), digest_of_abc);
}

} // namespace
} // namespace bulkhead::test
