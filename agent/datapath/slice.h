// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>

namespace bulkhead::agent {

// What a work that others can make as long as they like may take of the control loop at once: steps, and time. The work
// remembers where it was, and goes on in the next slice.
class Slice {
public:
    Slice(std::size_t steps, std::chrono::milliseconds time) : steps_(steps), end_(Clock::now() + time) {}

    // Takes a step; false: that is all for now.
    [[nodiscard]] bool take()
    {
        if (steps_ == 0 || Clock::now() >= end_)
            return false;
        --steps_;
        return true;
    }

private:
    using Clock = std::chrono::steady_clock;
    std::size_t steps_;
    Clock::time_point end_;
};

} // namespace bulkhead::agent
