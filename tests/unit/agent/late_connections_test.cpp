// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/late_connections.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

class LateConnectionsTest : public testing::Test {
protected:
    static bh_event of(std::uint64_t cookie)
    {
        bh_event event{};
        event.cookie = cookie;
        return event;
    }
    void run_for(std::chrono::milliseconds time)
    {
        loop_->after(time, [this] { loop_->stop(); });
        loop_->run();
    }

    std::unique_ptr<ControlLoop> loop_ = std::move(*ControlLoop::create());
    std::vector<std::uint64_t> cut_;
    std::function<Result<bool>(const bh_event&)> outcome_ = [](const auto&) { return true; };
    LateConnections late_{*loop_, [this](const bh_event& event) {
                              cut_.push_back(event.cookie);
                              return outcome_(event);
                          }};
};

TEST_F(LateConnectionsTest, OneIsCutAtOnce)
{
    late_.add(of(7));
    run_for(20ms);
    EXPECT_EQ(cut_, std::vector<std::uint64_t>{7});
    EXPECT_TRUE(late_.take_missed().empty());
}

TEST_F(LateConnectionsTest, WhatIsNotFoundIsLeftToAWalkAndAskedForOnce)
{
    outcome_ = [](const auto& event) -> Result<bool> {
        if (event.cookie == 9)
            return fail(ErrorKind::failed, "as told");
        return event.cookie != 8;
    };
    for (const std::uint64_t cookie : {7, 8, 9})
        late_.add(of(cookie));
    run_for(20ms);
    EXPECT_EQ(late_.take_missed(), std::set<std::uint64_t>{8});
    EXPECT_TRUE(late_.take_missed().empty());
}

// Each takes a while, as where there are many namespaces.
TEST_F(LateConnectionsTest, AFloodLeavesTheLoopTimeForOthers)
{
    outcome_ = [](const auto&) {
        std::this_thread::sleep_for(1ms);
        return true;
    };
    constexpr std::size_t flood = 20'000;
    for (std::uint64_t cookie = 1; cookie <= flood; ++cookie)
        late_.add(of(cookie));
    const auto begun = std::chrono::steady_clock::now();
    std::chrono::nanoseconds waited{};
    loop_->after(1ms, [&] { waited = std::chrono::steady_clock::now() - begun; });
    run_for(2s);
    EXPECT_LT(waited, 10s) << "all of them would take 20 s";
    EXPECT_GT(cut_.size(), LateConnections::of_a_round);
    EXPECT_LE(cut_.size(), LateConnections::at_once);
    EXPECT_EQ(late_.take_missed().size(), flood - LateConnections::at_once);
}

TEST_F(LateConnectionsTest, MemoryIsBounded)
{
    for (std::uint64_t cookie = 1; cookie <= 200'000; ++cookie)
        late_.add(of(cookie));
    EXPECT_EQ(late_.take_missed().size(), LateConnections::missed_at_most);
}

} // namespace
} // namespace bulkhead::agent
