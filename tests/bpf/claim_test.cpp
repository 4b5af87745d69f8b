// SPDX-License-Identifier: Apache-2.0
// The tests themselves: one that is killed leaves nothing behind for long.
#include "tests/bpf/claim.h"
#include "tests/bpf/fixture.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

namespace bulkhead::test {
namespace {

class ClaimTest : public BpfTest {};

constexpr const char* is_to_be_killed = "BULKHEAD_TEST_IS_TO_BE_KILLED";

TEST_F(ClaimTest, WhatAKilledTestLeftIsRemovedByTheNext)
{
    if (::getenv(is_to_be_killed) != nullptr) {
        const Cgroup inner(world_->enforced.path() + "/inner");
        ::kill(::getpid(), SIGKILL);
    }
    const std::string pins = Claim::of_this_process().pins(), cgroup = Claim::of_this_process().cgroup();
    EXPECT_TRUE(std::filesystem::exists(pins + "/test"));
    const auto of = [](std::string path, pid_t pid) {
        return path.replace(path.rfind('-') + 1, std::string::npos, std::to_string(pid));
    };
    const pid_t killed = ::fork();
    if (killed == 0) {
        ::setenv(is_to_be_killed, "1", 1);
        ::execl("/proc/self/exe", "claim", nullptr);
        ::_exit(1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(killed, &status, 0), killed);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_TRUE(std::filesystem::exists(of(pins, killed) + "/test"));
    EXPECT_TRUE(std::filesystem::exists(of(cgroup, killed) + "/inner"));
    remove_leftovers();
    EXPECT_FALSE(std::filesystem::exists(of(pins, killed)));
    EXPECT_FALSE(std::filesystem::exists(of(cgroup, killed)));
    EXPECT_FALSE(std::filesystem::exists(of(cgroup, killed) + "-elsewhere"));
    EXPECT_TRUE(std::filesystem::exists(pins + "/test")); // of one that lives
}

} // namespace
} // namespace bulkhead::test
