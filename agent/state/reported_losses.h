// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <cstdint>
#include <map>
#include <string>

namespace bulkhead::agent {

// STATE/reported-losses: the kernel's loss counters as they were last reported in gap records. The counters live in
// pinned maps and outlive the agent, so without this a restart would report the same loss again. Written only when one
// changes.
class ReportedLosses {
public:
    ReportedLosses(std::string state_dir, std::string boot_id);

    // Empty when nothing was kept in this boot.
    [[nodiscard]] const std::map<std::string, std::uint64_t>& reported() const { return reported_; }
    // All counters of the kernel; keeps those that count losses.
    [[nodiscard]] Status keep(const std::map<std::string, std::uint64_t>& counters);

private:
    std::string path_, boot_id_;
    std::map<std::string, std::uint64_t> reported_;
};

} // namespace bulkhead::agent
