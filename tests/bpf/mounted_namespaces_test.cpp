// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/mounted_namespaces.h"
#include "agent/datapath/namespace_finder.h"
#include "tests/bpf/sandbox.h"
#include "tests/harness/temp_dir.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <string>
#include <thread>

namespace bulkhead::test {
namespace {

// As container engines make them: mounted, with an interface, and nobody in it yet.
TEST(MountedNamespaces, AreKnownAsSoonAsTheyAreMounted)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "needs root: mounts";
    const TempDir dir;
    const auto place = dir.path() + "/blue net";
    const int made = ::open(place.c_str(), O_CREAT | O_RDONLY | O_CLOEXEC, 0600);
    ASSERT_GE(made, 0);
    ::close(made);
    std::thread([&] { // mounts are its own
        ASSERT_EQ(::unshare(CLONE_FS | CLONE_NEWNS), 0);
        ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
        agent::MountedNamespaces mounted("/proc/thread-self/mountinfo");
        const auto before = mounted.now();
        const Netns netns;
        EXPECT_FALSE(mounted.now().contains(netns.inode()));
        ASSERT_EQ(
            ::mount(("/proc/self/fd/" + std::to_string(netns.fd())).c_str(), place.c_str(), nullptr, MS_BIND, nullptr),
            0);
        ASSERT_TRUE(mounted.now().contains(netns.inode()));
        EXPECT_EQ(mounted.now().at(netns.inode()), place);
        agent::NamespaceHolder holder;
        holder.mount = place;
        EXPECT_TRUE(agent::open_namespace(netns.inode(), holder));
        EXPECT_FALSE(agent::open_namespace(netns.inode() + 1, holder)) << "another one is there now";
        ASSERT_EQ(::umount2(place.c_str(), MNT_DETACH), 0);
        EXPECT_EQ(mounted.now(), before);
        EXPECT_FALSE(agent::open_namespace(netns.inode(), holder));
    })
        .join();
}

} // namespace
} // namespace bulkhead::test
