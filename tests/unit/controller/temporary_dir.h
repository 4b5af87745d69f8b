// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <string>

namespace bulkhead::controller {

class TemporaryDir {
public:
    TemporaryDir()
    {
        std::string pattern = (std::filesystem::temp_directory_path() / "bulkhead-controller-test-XXXXXX").string();
        EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
        path_ = pattern;
    }
    TemporaryDir(const TemporaryDir&) = delete;
    TemporaryDir& operator=(const TemporaryDir&) = delete;
    ~TemporaryDir()
    {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    std::string path_;
};

// Runs with the system's clock, ahead by what the test says.
class ShiftedClock final : public Clock {
public:
    [[nodiscard]] WallTime wall() const override { return system_clock().wall() + std::chrono::seconds(shift.load()); }
    [[nodiscard]] MonotonicTime monotonic() const override
    {
        return system_clock().monotonic() + std::chrono::seconds(shift.load());
    }
    std::atomic<std::int64_t> shift{0}; // seconds
};

} // namespace bulkhead::controller
