// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

#include <chrono>
#include <string>

namespace bulkhead::cli {

struct DurationBounds {
    std::chrono::milliseconds least, most;
};

// An option that takes "250ms", "30s", "5m", "1h" or "2d"; a number without a unit is no duration. What is wrong or out
// of bounds is wrong usage.
CLI::Option* add_duration(CLI::App& command, const std::string& name, std::chrono::milliseconds& target,
                          const std::string& help, DurationBounds bounds);

[[nodiscard]] std::string duration_text(std::chrono::milliseconds duration); // "5m", "90s", "250ms"

} // namespace bulkhead::cli
