// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/file_digests.h"

#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <string>

namespace bulkhead::test {
namespace {

using agent::FileDigests;

const std::string mountinfo = "/proc/self/mountinfo";

std::optional<std::string> digest(FileDigests& digests, const std::string& path)
{
    const auto file = agent::identify_file(path, mountinfo);
    return file ? digests.of(*file, path, mountinfo) : std::nullopt;
}

TEST(FileDigests, AreThoseOfSha256sum)
{
    const TempDir folder;
    FileDigests digests;
    EXPECT_EQ(digest(digests, folder.file("a", "abc")),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

// Whoever may write to the folder puts something else in the file's place after it was looked at.
TEST(FileDigests, AnotherFileInItsPlaceHoldsNobodyUp)
{
    const TempDir folder;
    const auto path = folder.file("a", "abc");
    const auto file = agent::identify_file(path, mountinfo);
    ASSERT_TRUE(file);
    FileDigests digests;
    ASSERT_EQ(::unlink(path.c_str()), 0);
    ASSERT_EQ(::mkfifo(path.c_str(), 0700), 0);
    EXPECT_FALSE(digests.of(*file, path, mountinfo));
    ASSERT_EQ(::unlink(path.c_str()), 0);
    (void)folder.file("a", "longer than it was");
    EXPECT_FALSE(digests.of(*file, path, mountinfo));
}

} // namespace
} // namespace bulkhead::test
