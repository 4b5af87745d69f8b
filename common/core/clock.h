// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace bulkhead {

using WallTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>; // UTC
using MonotonicTime = std::chrono::nanoseconds; // since boot, CLOCK_MONOTONIC: what bpf_ktime_get_ns() reads

// Injected wherever time is read, so that tests can set it. Thread-safe.
class Clock {
public:
    virtual ~Clock() = default;
    [[nodiscard]] virtual WallTime wall() const = 0;
    [[nodiscard]] virtual MonotonicTime monotonic() const = 0;
};

[[nodiscard]] const Clock& system_clock();

// RFC 3339, UTC, microseconds: "2026-11-21T01:43:59.000123Z".
[[nodiscard]] std::string format_rfc3339(WallTime time);
[[nodiscard]] std::string format_rfc3339_micros(std::int64_t unix_micros);

} // namespace bulkhead
