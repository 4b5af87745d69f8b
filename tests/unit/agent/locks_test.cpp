// SPDX-License-Identifier: Apache-2.0
#include "agent/state/locks.h"
#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>

#include <csignal>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

using test::TempDir;

mode_t mode_of(const std::string& path)
{
    struct stat found {};
    EXPECT_EQ(::stat(path.c_str(), &found), 0);
    return found.st_mode & 07777U;
}

TEST(StateDir, IsMadeForItsOwnerAlone)
{
    const TempDir dir;
    ASSERT_TRUE(prepare_state_dir(dir / "a/b/state"));
    EXPECT_EQ(mode_of(dir / "a/b/state"), 0700U);
    const auto open = dir.folder("open");
    ::chmod(open.c_str(), 0755);
    ASSERT_TRUE(prepare_state_dir(open));
    EXPECT_EQ(mode_of(open), 0700U);
}

TEST(Locks, ASecondAgentIsRefused)
{
    const TempDir dir;
    auto first = lock_state_dir(dir.path());
    ASSERT_TRUE(first);
    const auto second = lock_state_dir(dir.path());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, ErrorKind::refused);
    first->reset();
    EXPECT_TRUE(lock_state_dir(dir.path()));

    const auto cgroup = lock_cgroup(dir.path());
    ASSERT_TRUE(cgroup);
    EXPECT_EQ(lock_cgroup(dir.path()).error().kind, ErrorKind::refused);
}

TEST(Locks, DoNotOutliveAKilledProcess)
{
    const TempDir dir;
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const auto lock = lock_state_dir(dir.path());
        [[maybe_unused]] const auto written = ::write(ready[1], lock ? "y" : "n", 1);
        ::pause();
        ::_exit(0);
    }
    char answer = 0;
    ASSERT_EQ(::read(ready[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    EXPECT_FALSE(lock_state_dir(dir.path()));
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_TRUE(lock_state_dir(dir.path()));
    ::close(ready[0]);
    ::close(ready[1]);
}

TEST(AgentId, IsMadeOnce)
{
    const TempDir dir;
    const auto first = standalone_agent_id(dir.path());
    ASSERT_TRUE(first);
    EXPECT_EQ(first->size(), 32U);
    EXPECT_EQ(*standalone_agent_id(dir.path()), *first);
    const TempDir other;
    EXPECT_NE(*standalone_agent_id(other.path()), *first);
    dir.file("agent-id", "");
    EXPECT_EQ(standalone_agent_id(dir.path())->size(), 32U); // a torn file is made anew
}

} // namespace
} // namespace bulkhead::agent
