// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace bulkhead::cli {

struct Finding {
    enum class Grade { good, warning, bad } grade = Grade::good;
    std::string check, what, mend;
};

// Where to look; a test points it at a tree of its own.
struct HostPaths {
    std::string root; // prefix of /proc and /sys; empty on a real host
};

// What an agent needs of this host, by reading files only: nothing is loaded or changed, no privilege needed. The agent
// itself probes more when it starts.
[[nodiscard]] std::vector<Finding> check_host(const HostPaths& paths);

} // namespace bulkhead::cli
