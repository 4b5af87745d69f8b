// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"

namespace bulkhead::test {

// Stands still until it is told to go on.
class FakeClock final : public Clock {
public:
    [[nodiscard]] WallTime wall() const override { return wall_; }
    [[nodiscard]] MonotonicTime monotonic() const override { return monotonic_; }

    void advance(std::chrono::nanoseconds by)
    {
        wall_ += by;
        monotonic_ += by;
    }
    void step_wall(std::chrono::nanoseconds by) { wall_ += by; } // somebody set the time

private:
    WallTime wall_{std::chrono::seconds(1'700'000'000)};
    MonotonicTime monotonic_{std::chrono::seconds(1000)};
};

} // namespace bulkhead::test
