// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/failed_starts.h"
#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>

namespace bulkhead::agent {
namespace {

using std::chrono::seconds;

TEST(FailedStarts, AFewInARowCostNoPauseAndMoreAtMostFortySeconds)
{
    EXPECT_EQ(pause_after(0), seconds(0));
    EXPECT_EQ(pause_after(5), seconds(0));
    EXPECT_EQ(pause_after(6), seconds(2));
    EXPECT_EQ(pause_after(7), seconds(4));
    EXPECT_EQ(pause_after(10), seconds(32));
    EXPECT_EQ(pause_after(11), seconds(40));
    EXPECT_EQ(pause_after(4'000'000'000), seconds(40));
}

TEST(FailedStarts, AreCountedUntilOneSucceeds)
{
    const test::TempDir dir;
    EXPECT_EQ(count_failed_start(dir.path()), 1U);
    EXPECT_EQ(count_failed_start(dir.path()), 2U);
    forget_failed_starts(dir.path());
    EXPECT_EQ(count_failed_start(dir.path()), 1U);
    std::ofstream(std::string(dir.path()) + "/failed-starts") << "rubbish";
    EXPECT_EQ(count_failed_start(dir.path()), 1U);
}

TEST(FailedStarts, WithoutAUnitNothingIsCounted)
{
    EXPECT_EQ(count_failed_start(""), 0U);
    forget_failed_starts("");
    EXPECT_EQ(count_failed_start("/nowhere/at/all"), 1U);
    ::unsetenv("RUNTIME_DIRECTORY");
    EXPECT_EQ(runtime_folder(), "");
    ::setenv("RUNTIME_DIRECTORY", "/run/bulkhead:/run/other", 1);
    EXPECT_EQ(runtime_folder(), "/run/bulkhead");
    ::unsetenv("RUNTIME_DIRECTORY");
}

TEST(FailedStarts, AStopDoesNotWaitForThePause)
{
    sigset_t set, before;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &set, &before), 0);
    ASSERT_EQ(::raise(SIGTERM), 0);
    const auto began = std::chrono::steady_clock::now();
    wait_for_signal(seconds(30));
    EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(10));
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

} // namespace
} // namespace bulkhead::agent
