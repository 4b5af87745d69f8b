// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"

#include <map>

namespace bulkhead::agent {

// How long users make the agent wait or work, within a while: one, and all together. Not thread-safe.
class TimeBudget {
public:
    struct Limits {
        MonotonicTime of_one, of_all, within;
    };
    TimeBudget(const Clock& clock, Limits limits) : clock_(clock), limits_(limits), since_(clock.monotonic()) {}

    [[nodiscard]] bool has_some_for(unsigned user)
    {
        const auto now = clock_.monotonic();
        if (now - since_ >= limits_.within) {
            since_ = now;
            spent_.clear();
            spent_in_all_ = {};
        }
        const auto theirs = spent_.find(user);
        return spent_in_all_ < limits_.of_all && (theirs == spent_.end() || theirs->second < limits_.of_one);
    }
    void spend(unsigned user, MonotonicTime time)
    {
        spent_[user] += time;
        spent_in_all_ += time;
    }

private:
    const Clock& clock_;
    Limits limits_;
    MonotonicTime since_;
    std::map<unsigned, MonotonicTime> spent_; // by user
    MonotonicTime spent_in_all_{};
};

} // namespace bulkhead::agent
