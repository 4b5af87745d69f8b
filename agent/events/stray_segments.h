// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_key.h"
#include "common/core/clock.h"

#include <deque>
#include <unordered_map>

namespace bulkhead::agent {

// Outbound TCP connections that ended within the last minute. A segment that the peer sent before it knew of the end
// finds no socket and so comes to the inbound door, which refuses it: that is the tail of a connection, not an attempt.
// Only an exact match of both ends counts: all that whoever forges one could reach is a port that is closed again.
// Bounded: under a storm of connections the oldest go first.
class StraySegments {
public:
    void ended(const FlowTuple& tuple, MonotonicTime now);
    [[nodiscard]] bool is_tail(const FlowTuple& tuple, MonotonicTime now) const;
    void expire(MonotonicTime now);

private:
    std::unordered_map<FlowTuple, MonotonicTime, FlowHash> ended_;
    std::deque<std::pair<MonotonicTime, FlowTuple>> order_;
};

} // namespace bulkhead::agent
