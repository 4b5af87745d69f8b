// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/listener_watch.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace bulkhead::agent {
namespace {

bh_listener owned_by(pid_t pid)
{
    bh_listener listener{};
    listener.owner.pid = static_cast<std::uint32_t>(pid);
    return listener;
}

FacetRow row(std::uint32_t facet, std::uint32_t device, std::uint64_t value)
{
    FacetRow made;
    made.key.facet = facet;
    made.key.device = device;
    made.key.value = value;
    return made;
}

TEST(ListenerWatch, TellsOnceThatAnOwnerHasEnded)
{
    const pid_t child = ::fork();
    if (child == 0) {
        ::pause();
        ::_exit(0);
    }
    const KernelListeners listeners{{{}, owned_by(0)}, {{}, owned_by(::getpid())}, {{}, owned_by(child)}};
    ListenerWatch watch;
    EXPECT_FALSE(watch.owner_ended(listeners));
    ::kill(child, SIGKILL);
    siginfo_t ended{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
    EXPECT_TRUE(watch.owner_ended(listeners)) << "though its parent does not know yet";
    EXPECT_FALSE(watch.owner_ended(listeners));
    ::waitpid(child, nullptr, 0);
    EXPECT_FALSE(watch.owner_ended(listeners)) << "nobody has inherited it";
    EXPECT_FALSE(watch.owner_ended({{{}, owned_by(::getpid())}}));
    EXPECT_TRUE(watch.owner_ended(listeners)) << "a number that was given away since";
}

TEST(ListenerWatch, KnowsWhoseClassesGo)
{
    auto listener = owned_by(7);
    listener.owner.exe_inode = 100;
    listener.owner.exe_device = 1;
    listener.cgroups.id[0] = 200;
    listener.cgroups.id[1] = 300;
    const KernelListeners listeners{{{}, owned_by(8)}, {{}, listener}};
    const auto owned = [&](const FacetRow& one) { return owned_by_any(listeners, {&one, 1}); };
    EXPECT_TRUE(owned(row(BH_FACET_EXECUTABLE, 1, 100)));
    EXPECT_FALSE(owned(row(BH_FACET_EXECUTABLE, 2, 100)));
    EXPECT_TRUE(owned(row(BH_FACET_CGROUP, 0, 200)));
    EXPECT_TRUE(owned(row(BH_FACET_CGROUP, 0, 300))) << "of a cgroup around the owner's";
    EXPECT_FALSE(owned(row(BH_FACET_CGROUP, 0, 100)));
    EXPECT_FALSE(owned(row(BH_FACET_USER, 0, 100)));
}

} // namespace
} // namespace bulkhead::agent
