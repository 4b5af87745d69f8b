// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace bulkhead::controller {

// Says that the store has new records. Followers read them from the store, each at its own pace, so a slow one holds
// nothing back and costs no memory. Thread-safe.
class RecordFeed {
public:
    void notify();
    // Waits until notify() was called more often than `seen`, or for the time given; returns how often it was called.
    std::uint64_t wait(std::uint64_t seen, std::chrono::milliseconds timeout);
    [[nodiscard]] std::uint64_t count() const;

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t count_ = 0;
};

} // namespace bulkhead::controller
