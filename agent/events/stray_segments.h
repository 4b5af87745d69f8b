// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_key.h"
#include "common/core/clock.h"

#include <cstdint>
#include <deque>
#include <vector>

namespace bulkhead::agent {

// Outbound TCP connections that ended within the last hours. A segment that the peer sent before it knew of the end
// finds no socket and so comes to the inbound door, which refuses it: that is the tail of a connection, not an attempt.
// A peer that looks at its end of an idle connection when it has a use for it may close it very late.
// Only a match of both ends counts: all that whoever forges one could reach is a port that is closed again. So that it
// still is, after the first minute nobody must hear there.
//
// Bounded, at some 3 MiB: under a storm of connections the oldest go first. What is kept of one is a digest of 64 bits
// with a secret of this object, so that nobody can look for two that are alike.
class StraySegments {
public:
    StraySegments();

    void ended(const FlowTuple& tuple, MonotonicTime now);
    // `heard`: somebody listens at the local end; then for a minute, and five seconds more at most. Else for eight
    // hours, and a quarter of one more at most.
    [[nodiscard]] bool is_tail(const FlowTuple& tuple, MonotonicTime now, bool heard) const;
    void expire(MonotonicTime now);

private:
    // Open addressing; 0 is a free slot.
    class Digests {
    public:
        bool insert(std::uint64_t digest); // false: it was there
        [[nodiscard]] bool contains(std::uint64_t digest) const;
        void insert_all(const Digests& others);
        [[nodiscard]] std::size_t size() const { return size_; }

    private:
        [[nodiscard]] std::size_t slot_of(std::uint64_t digest) const; // where it is, or belongs
        std::vector<std::uint64_t> slots_ = std::vector<std::uint64_t>(64);
        std::size_t size_ = 0;
    };
    // Those that ended within a few seconds, of old ones within minutes, and are forgotten together.
    struct Generation {
        MonotonicTime first, last;
        Digests digests{};
    };

    [[nodiscard]] std::uint64_t digest(const FlowTuple& tuple) const;
    void forget_oldest();
    void join_old(MonotonicTime now);

    std::uint64_t secret_;
    std::deque<Generation> generations_;
    std::size_t kept_ = 0; // in all generations
};

} // namespace bulkhead::agent
