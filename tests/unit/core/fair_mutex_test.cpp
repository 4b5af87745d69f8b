// SPDX-License-Identifier: Apache-2.0
#include "common/core/fair_mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace bulkhead {
namespace {

TEST(FairMutex, NobodyGetsItTwiceWhileAnotherWaits)
{
    FairMutex mutex;
    std::atomic<int> turns = 0;
    const std::jthread greedy([&](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            const std::lock_guard lock(mutex);
            ++turns;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    });
    while (turns == 0)
        std::this_thread::yield();
    for (int i = 0; i < 20; ++i) {
        const int before = turns;
        const std::lock_guard lock(mutex);
        EXPECT_LE(turns - before, 10) << "until this thread stands in the door";
    }
}

} // namespace
} // namespace bulkhead
