// SPDX-License-Identifier: Apache-2.0
#include "agent/events/process_names.h"

#include "assembler_fixture.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

bh_subject process(std::uint32_t pid)
{
    bh_subject subject{};
    subject.pid = subject.tid = pid;
    return subject;
}

TEST(ProcessNames, AnAnswerServesAllThreadsForASecond)
{
    test::FakeClock clock;
    FakeProcesses processes;
    ProcessNames names(processes, clock);
    auto thread = process(7);
    thread.tid = 8;
    const auto first = names.describe(process(7));
    EXPECT_EQ(names.describe(thread), first);
    clock.advance(999ms);
    EXPECT_EQ(names.describe(process(7)), first);
    EXPECT_EQ(processes.questions, 1);
    clock.advance(1ms);
    EXPECT_EQ(names.describe(process(7))->exe(), first->exe());
    EXPECT_EQ(processes.questions, 2);
}

TEST(ProcessNames, WhatServesNoMoreIsNotKept)
{
    test::FakeClock clock;
    FakeProcesses processes;
    ProcessNames names(processes, clock);
    std::vector<std::weak_ptr<const v1::Process>> seen;
    for (std::uint32_t pid = 1; pid <= 100; ++pid)
        seen.push_back(names.describe(process(pid)));
    const auto of_a_flow = names.describe(process(1));
    clock.advance(1s);
    const auto other = names.describe(process(101));
    EXPECT_EQ(seen.front().lock(), of_a_flow);
    for (std::size_t i = 1; i < seen.size(); ++i)
        EXPECT_TRUE(seen[i].expired()) << i;
}

} // namespace
} // namespace bulkhead::agent
