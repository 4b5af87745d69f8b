// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/namespace_sweep.h"

#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

// A tree like that of cgroups, with this process in the folder named last.
class NamespaceSweepTest : public testing::Test {
protected:
    static constexpr std::size_t folders = 500;

    void SetUp() override
    {
        for (std::size_t i = 0; i < folders; ++i)
            std::filesystem::create_directories(folder(i));
        std::ofstream(dir_.path() + "/cgroup.procs") << "";
        std::ofstream(folder(123) + "/cgroup.procs") << ::getpid() << "\n";
        struct stat status {};
        ASSERT_EQ(::stat("/proc/self/ns/net", &status), 0);
        own_ = static_cast<std::uint32_t>(status.st_ino);
    }
    [[nodiscard]] std::string folder(std::size_t i) const
    {
        const auto one = dir_.path() + "/" + std::to_string(i);
        return i == 123 ? one + "/a/b/c" : one;
    }
    void go_on(std::size_t steps)
    {
        Slice slice(steps, 10s);
        sweep_.go_on(slice);
    }
    test::TempDir dir_;
    NamespaceSweep sweep_{dir_.path()};
    std::uint32_t own_ = 0;
};

TEST_F(NamespaceSweepTest, GoesOnWhereItWasUntilItWasEverywhere)
{
    go_on(folders / 2);
    EXPECT_TRUE(sweep_.found().empty()) << "it has read names so far";
    for (std::size_t i = 0; i < 20; ++i)
        go_on(folders / 2);
    ASSERT_EQ(sweep_.found().size(), 1U);
    EXPECT_EQ(sweep_.found().begin()->first, own_);
    EXPECT_EQ(sweep_.found().begin()->second.pid, ::getpid());
}

TEST_F(NamespaceSweepTest, WhatWasFoundStaysUntilASweepWithoutIt)
{
    go_on(1 << 20);
    ASSERT_EQ(sweep_.found().size(), 1U) << "one call is one sweep, if there is time";
    std::filesystem::remove(folder(123) + "/cgroup.procs");
    go_on(folders / 2);
    EXPECT_EQ(sweep_.found().size(), 1U) << "it may come yet";
    go_on(1 << 20);
    EXPECT_TRUE(sweep_.found().empty());
}

// Whoever makes and removes folders all the time does not hide what others have.
TEST_F(NamespaceSweepTest, FoldersThatGoMeanwhileDoNotEndIt)
{
    go_on(folders + 10);
    for (std::size_t i = 0; i < folders; ++i)
        if (i != 123)
            std::filesystem::remove(folder(i));
    go_on(1 << 20);
    EXPECT_EQ(sweep_.found().size(), 1U);
}

} // namespace
} // namespace bulkhead::agent
