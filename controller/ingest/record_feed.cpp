// SPDX-License-Identifier: Apache-2.0
#include "controller/ingest/record_feed.h"

namespace bulkhead::controller {

void RecordFeed::notify()
{
    const std::lock_guard lock(mutex_);
    ++count_;
    changed_.notify_all();
}

std::uint64_t RecordFeed::wait(std::uint64_t seen, std::chrono::milliseconds timeout)
{
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [&] { return count_ > seen; });
    return count_;
}

std::uint64_t RecordFeed::count() const
{
    const std::lock_guard lock(mutex_);
    return count_;
}

} // namespace bulkhead::controller
