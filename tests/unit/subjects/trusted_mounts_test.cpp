// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/trusted_mounts.h"

#include "agent/enrich/file_identity.h"
#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>

#include <unistd.h>

namespace bulkhead::agent {
namespace {

namespace fs = std::filesystem;

// Processes of the test's own mount namespace, whose mountinfo says what the test wants.
class Mounts : public ::testing::Test {
protected:
    void SetUp() override { process(self, "/", ""); }

    void process(std::uint32_t pid, const std::string& seen_as_root, const std::string& mountinfo)
    {
        const auto name = std::to_string(pid);
        root.file(name + "/mountinfo", mountinfo);
        fs::create_directory(root / name + "/ns");
        fs::create_symlink("/proc/self/ns/mnt", root / name + "/ns/mnt");
        fs::create_symlink(fs::read_symlink("/proc/self/ns/user"), root / name + "/ns/user");
        fs::create_symlink(seen_as_root, root / name + "/root");
        pids.push_back(pid);
    }
    std::optional<std::uint32_t> device(std::uint64_t mount, const std::string& path)
    {
        const auto found = TrustedMounts(proc, pids).find(mount, 70, path);
        return found ? std::optional(found->device) : std::nullopt;
    }

    const std::uint32_t self = static_cast<std::uint32_t>(::getpid());
    test::TempDir root;
    ProcFiles proc{root.path()};
    std::vector<std::uint32_t> pids;
};

TEST_F(Mounts, AreBelievedAtAndBelowTheirPoint)
{
    process(70, "/",
            "20 1 254:1 / / rw - ext4 /dev/vda1 rw\n"
            "21 20 0:40 /in /opt/a\\040b rw - tmpfs t rw\n"
            "nonsense\n");
    EXPECT_EQ(device(20, "/usr/bin/curl"), kernel_device(254, 1));
    EXPECT_EQ(device(21, "/opt/a b/tool"), kernel_device(0, 40));
    EXPECT_EQ(device(21, "/opt/a b"), kernel_device(0, 40)); // a file can be a mount point
    EXPECT_EQ(device(21, "/opt/a bc"), std::nullopt);
    EXPECT_EQ(device(21, "/usr/bin/curl"), std::nullopt);
    EXPECT_EQ(device(22, "/usr/bin/curl"), std::nullopt);
}

TEST_F(Mounts, OfAProcessInAnotherRootAreSeenFromOutside)
{
    process(70, "/srv/jail", "20 1 0:40 / / rw - tmpfs t rw\n21 20 0:41 / /data rw - tmpfs t rw\n");
    EXPECT_EQ(device(20, "/srv/jail/tool"), kernel_device(0, 40));
    EXPECT_EQ(device(21, "/srv/jail/data/tool"), kernel_device(0, 41));
    EXPECT_EQ(device(21, "/data/tool"), std::nullopt);
}

TEST_F(Mounts, AreReadOnceALook)
{
    process(70, "/", "20 1 0:40 / / rw - tmpfs t rw\n");
    TrustedMounts mounts(proc, pids);
    EXPECT_TRUE(mounts.find(20, 70, "/tool"));
    root.file("70/mountinfo", "");
    EXPECT_TRUE(mounts.find(20, 70, "/tool"));
}

TEST_F(Mounts, AreReadFromAnotherWhereTheFirstHasEnded)
{
    process(70, "/", "20 1 0:40 / / rw - tmpfs t rw\n");
    process(71, "/", "");
    TrustedMounts mounts(proc, pids);
    EXPECT_FALSE(mounts.find(20, 71, "/tool")); // his are gone with him
    EXPECT_TRUE(mounts.find(20, 70, "/tool"));
}

} // namespace
} // namespace bulkhead::agent
