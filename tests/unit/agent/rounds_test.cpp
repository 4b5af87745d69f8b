// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/rounds.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

class RoundsTest : public testing::Test {
protected:
    std::unique_ptr<ControlLoop> loop_ = std::move(*ControlLoop::create());
    int done_ = 0;
    void run_for(std::chrono::milliseconds time)
    {
        loop_->after(time, [this] { loop_->stop(); });
        loop_->run();
    }
};

// A container's start changes interfaces a dozen times within milliseconds.
TEST_F(RoundsTest, ManyWishesAreOneRound)
{
    Rounds rounds(*loop_, [this] {
        ++done_;
        return false;
    });
    const auto wish = [&] {
        for (int i = 0; i < 1000; ++i)
            rounds.ask();
    };
    wish();
    loop_->after(100ms, [&] {
        EXPECT_EQ(done_, 1);
        wish();
    });
    run_for(200ms);
    EXPECT_EQ(done_, 2);
}

TEST_F(RoundsTest, AWishThatComesDuringARoundHasOneOfItsOwn)
{
    Rounds rounds(*loop_, [&] {
        if (++done_ == 1)
            rounds.ask();
        return false;
    });
    rounds.ask();
    run_for(200ms);
    EXPECT_EQ(done_, 2);
}

TEST_F(RoundsTest, WhatIsNotDoneGoesOnUnasked)
{
    Rounds rounds(*loop_, [this] { return ++done_ < 5; });
    rounds.ask_after_a_rest();
    EXPECT_EQ(done_, 0);
    run_for(500ms);
    EXPECT_EQ(done_, 5);
}

} // namespace
} // namespace bulkhead::agent
