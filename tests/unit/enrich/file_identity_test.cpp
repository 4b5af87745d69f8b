// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/file_identity.h"

#include "common/core/unique_fd.h"
#include "tests/harness/temp_dir.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

namespace bulkhead::agent {
namespace {

std::string line_of(std::uint64_t mount, unsigned minor, const std::string& point)
{
    return fmt::format("{} 1 0:{} / {} rw - tmpfs none rw\n", mount, minor, point);
}

// Anybody may have very many mounts.
TEST(FileIdentity, TheDeviceIsThatOfTheMountUnlessItsLineComesVeryLate)
{
    const UniqueFd memory(::memfd_create("file", MFD_CLOEXEC)); // on no block device
    const auto shown = show_file(memory.get(), "", AT_EMPTY_PATH).value();
    ASSERT_TRUE(shown.mount);
    const test::TempDir folder;
    const auto here = line_of(*shown.mount, 987'654, "/here");
    std::string others;
    for (unsigned i = 0; others.size() < 1'000'000; ++i)
        others += line_of(1'000'000'000 + i, 5, "/" + std::string(4000, 'x'));
    EXPECT_EQ(identify_file(shown, folder.file("early", here)).device, 987'654U);
    EXPECT_EQ(identify_file(shown, folder.file("late", others + here)).device, 987'654U);
    EXPECT_EQ(identify_file(shown, folder.file("too-late", others + others + here)).device, shown.file.device);
    EXPECT_EQ(identify_file(shown, folder / "none").device, shown.file.device);
}

// By which anybody would have the agent wait for a file system of his own.
TEST(FileIdentity, NoSymlinkLeadsIntoTheMountsOfAProcess)
{
    const test::TempDir folder;
    const auto file = folder.file("a", "abc"), link = folder / "link", way_around = folder / "way-around";
    ASSERT_EQ(::symlink(file.c_str(), link.c_str()), 0);
    ASSERT_EQ(::symlink(("/proc/self/root" + file).c_str(), way_around.c_str()), 0);
    EXPECT_TRUE(identify_file(link, "/proc/self/mountinfo"));
    EXPECT_FALSE(identify_file(way_around, "/proc/self/mountinfo"));
    EXPECT_FALSE(open_place("/proc/self/root" + folder.path(), O_RDONLY | O_DIRECTORY));
    EXPECT_TRUE(open_place(folder.path(), O_RDONLY | O_DIRECTORY));
}

} // namespace
} // namespace bulkhead::agent
