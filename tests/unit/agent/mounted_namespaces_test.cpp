// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/mounted_namespaces.h"

#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>

#include <fstream>

namespace bulkhead::agent {
namespace {

using Places = std::map<std::uint32_t, std::string>;

class MountedNamespacesTest : public testing::Test {
protected:
    Places read(const std::string& mountinfo)
    {
        const auto path = dir_.path() + "/mountinfo";
        std::ofstream(path) << mountinfo;
        return MountedNamespaces(path).now();
    }
    test::TempDir dir_;
};

TEST_F(MountedNamespacesTest, AreFoundAmongOtherMounts)
{
    EXPECT_EQ(read("24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
                   "595 30 0:4 net:[4026532281] /run/netns/blue rw shared:301 - nsfs nsfs rw\n"
                   "596 30 0:4 mnt:[4026532282] /run/snapd/ns/x.mnt rw - nsfs nsfs rw\n"
                   "597 30 0:4 net:[4026532283] /run/docker/netns/1a2b rw shared:302 master:7 - nsfs nsfs rw\n"),
              (Places{{4026532281, "/run/netns/blue"}, {4026532283, "/run/docker/netns/1a2b"}}));
}

TEST_F(MountedNamespacesTest, NamesAreUnescaped)
{
    EXPECT_EQ(read("1 2 0:4 net:[7] /run/netns/a\\040b\\134\\0 rw - nsfs nsfs rw\n"),
              (Places{{7, "/run/netns/a b\\\\0"}}));
}

TEST_F(MountedNamespacesTest, OnlyNsfsHasNamespaces)
{
    EXPECT_EQ(read("1 2 0:4 net:[7] /mnt rw - ext4 /dev/sda rw\n"
                   "1 2 0:4 net:[x] /mnt rw - nsfs nsfs rw\n"
                   "1 2 0:4 net:[7 /mnt rw - nsfs nsfs rw\n"
                   "1 2 0:4 net:[99999999999] /mnt rw - nsfs nsfs rw\n"
                   "1 2 0:4 net:[7]\n"
                   "\n"
                   " - nsfs\n"),
              Places{});
    EXPECT_EQ(MountedNamespaces(dir_.path() + "/nowhere").now(), Places{});
}

} // namespace
} // namespace bulkhead::agent
