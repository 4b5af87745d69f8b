// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/hint_rounds.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

class HintRoundsTest : public testing::Test {
protected:
    std::unique_ptr<ControlLoop> loop_ = std::move(*ControlLoop::create());
    std::vector<std::vector<NamespaceHint>> rounds_;
    std::size_t hints_of_all_ = 0;
    HintRounds hints_{*loop_, [this](std::span<const NamespaceHint> hints) {
                          rounds_.emplace_back(hints.begin(), hints.end());
                          hints_of_all_ += hints.size();
                          return false;
                      }};
    void run_for(std::chrono::milliseconds time)
    {
        loop_->after(time, [this] { loop_->stop(); });
        loop_->run();
    }
};

TEST_F(HintRoundsTest, HintsForOneNamespaceAreOne)
{
    for (std::uint32_t pid = 1; pid <= 1000; ++pid)
        hints_.add({7, pid, pid, 1000});
    run_for(50ms);
    ASSERT_EQ(rounds_.size(), 1U);
    ASSERT_EQ(rounds_[0].size(), 1U);
    EXPECT_EQ(rounds_[0][0].pid, 1000U) << "whoever was seen there last";
}

TEST_F(HintRoundsTest, UsersTakeTurns)
{
    for (std::uint32_t inode = 1; inode <= 5000; ++inode)
        hints_.add({inode, 1, 1, 1000});
    hints_.add({9999, 2, 2, 1001});
    run_for(300ms);
    ASSERT_GT(rounds_.size(), 1U);
    EXPECT_EQ(rounds_[0].size(), HintRounds::of_a_round);
    EXPECT_TRUE(std::any_of(rounds_[0].begin(), rounds_[0].end(), [](const auto& hint) { return hint.inode == 9999; }));
    EXPECT_EQ(hints_of_all_, HintRounds::of_a_user + 1) << "what waits is bounded";
}

TEST_F(HintRoundsTest, OneThatComesAloneDoesNotWait)
{
    std::chrono::steady_clock::time_point seen;
    HintRounds hints(*loop_, [&](auto) {
        seen = std::chrono::steady_clock::now();
        loop_->stop();
        return false;
    });
    const auto told = std::chrono::steady_clock::now();
    hints.add({7, 1, 1, 0});
    loop_->run();
    EXPECT_LT(seen - told, 500ms);
}

// The loop has a watchdog to content and a policy to realise, whatever there is to look for.
TEST_F(HintRoundsTest, RoundsWithoutEndLeaveTheLoopMostOfItsTime)
{
    int rounds = 0, beats = 0;
    HintRounds hints(*loop_, [&](auto) {
        ++rounds;
        std::this_thread::sleep_for(20ms);
        return true;
    });
    loop_->every(5ms, [&] { ++beats; });
    std::jthread flood([&](const std::stop_token& stop) {
        for (std::uint32_t inode = 1; !stop.stop_requested(); ++inode) {
            hints.add({inode, 1, 1, 1000});
            std::this_thread::sleep_for(100us);
        }
    });
    run_for(1000ms);
    flood.request_stop();
    EXPECT_GT(rounds, 2);
    EXPECT_LE(rounds, 11);
    EXPECT_GT(beats, 40);
}

} // namespace
} // namespace bulkhead::agent
