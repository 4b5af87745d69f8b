// SPDX-License-Identifier: Apache-2.0
#include "common/core/clock.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

namespace bulkhead {
namespace {

class SystemClock final : public Clock {
public:
    [[nodiscard]] WallTime wall() const override
    {
        return std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
    }
    [[nodiscard]] MonotonicTime monotonic() const override
    {
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC, &now);
        return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
    }
};

} // namespace

const Clock& system_clock()
{
    static const SystemClock clock;
    return clock;
}

std::string format_rfc3339_micros(std::int64_t unix_micros)
{
    auto seconds = static_cast<std::time_t>(unix_micros / 1'000'000);
    auto micros = unix_micros % 1'000'000;
    if (micros < 0) {
        micros += 1'000'000;
        --seconds;
    }
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06d}Z", fmt::gmtime(seconds), micros);
}

std::string format_rfc3339(WallTime time)
{
    return format_rfc3339_micros(std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count());
}

} // namespace bulkhead
