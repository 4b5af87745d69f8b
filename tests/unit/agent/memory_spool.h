// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/spool.h"

#include <condition_variable>
#include <mutex>

namespace bulkhead::test {

// A spool without a disk. `first` > 1: the oldest have gone.
class MemorySpool final : public agent::Spool {
public:
    std::vector<v1::Record> records;
    std::uint64_t first = 1;
    std::size_t reads = 0;

    Status append_all(std::vector<v1::Record> several) override
    {
        const std::lock_guard lock(mutex_);
        for (auto& record : several) {
            record.set_seq(first + records.size());
            records.push_back(std::move(record));
        }
        changed_.notify_all();
        return {};
    }
    Status sync() override { return {}; }
    Result<std::vector<v1::Record>> read(std::uint64_t after, std::size_t limit,
                                         std::chrono::milliseconds timeout) override
    {
        std::unique_lock lock(mutex_);
        ++reads;
        changed_.wait_for(lock, timeout, [&] { return first + records.size() > after + 1; });
        std::vector<v1::Record> found;
        for (const auto& record : records)
            if (record.seq() > after && found.size() < limit)
                found.push_back(record);
        return found;
    }
    Status acknowledge(std::uint64_t seq) override
    {
        const std::lock_guard lock(mutex_);
        acknowledged_ = seq;
        return {};
    }
    [[nodiscard]] std::uint64_t acknowledged() const override
    {
        const std::lock_guard lock(mutex_);
        return acknowledged_;
    }
    [[nodiscard]] std::uint64_t first_seq() const override { return first; }
    [[nodiscard]] std::uint64_t next_seq() const override
    {
        const std::lock_guard lock(mutex_);
        return first + records.size();
    }
    [[nodiscard]] std::uint64_t bytes() const override { return 0; }
    [[nodiscard]] std::uint64_t lost() const override { return 0; }

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t acknowledged_ = 0;
};

} // namespace bulkhead::test
