// SPDX-License-Identifier: Apache-2.0
#include "agent/events/stray_segments.h"

namespace bulkhead::agent {
namespace {

constexpr auto keep_for = std::chrono::seconds(60); // TIME_WAIT on Linux, and then some retransmissions
constexpr std::size_t max_kept = 131072;

} // namespace

void StraySegments::ended(const FlowTuple& tuple, MonotonicTime now)
{
    ended_[tuple] = now;
    order_.emplace_back(now, tuple);
    expire(now);
}

bool StraySegments::is_tail(const FlowTuple& tuple, MonotonicTime now) const
{
    const auto found = ended_.find(tuple);
    return found != ended_.end() && now - found->second <= keep_for;
}

void StraySegments::expire(MonotonicTime now)
{
    while (!order_.empty() && (order_.size() > max_kept || now - order_.front().first > keep_for)) {
        const auto found = ended_.find(order_.front().second);
        if (found != ended_.end() && found->second == order_.front().first) // else it ended again, later
            ended_.erase(found);
        order_.pop_front();
    }
}

} // namespace bulkhead::agent
