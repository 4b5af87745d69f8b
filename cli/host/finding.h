// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/host/run_program.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::cli {

struct Finding {
    // unseen: could not be looked at from here, for want of privileges or because it is not there yet
    enum class Grade { good, warning, bad, unseen } grade = Grade::good;
    std::string check, what, mend;
};
using Findings = std::vector<Finding>;

// Where to look; a test points it at a tree of its own, and brings its own programs.
struct HostPaths {
    std::string root; // prefix of every path; empty on a real host
    std::function<std::optional<ProgramEnd>(const std::vector<std::string>&)> run = run_program;

    // What a program said that ended well.
    [[nodiscard]] std::optional<std::string> output_of(const std::vector<std::string>& argv) const;
};

[[nodiscard]] std::optional<std::string> first_line(const std::string& path);
[[nodiscard]] std::optional<std::string> whole_file(const std::string& path);  // at most the first 4 MiB of it
[[nodiscard]] std::optional<std::string> end_of_file(const std::string& path); // at most the last 4 MiB of it

} // namespace bulkhead::cli
