// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/host/finding.h"

namespace bulkhead::cli {

// Who else decides about this host's traffic: packet filters, BPF programs, other agents. What Bulkhead allows, they
// may still drop. Reads only.
[[nodiscard]] Findings check_conflicts(const HostPaths& paths);

// A program that is loaded in this kernel.
struct LoadedProgram {
    std::uint32_t type = 0; // enum bpf_prog_type
    std::string name;
};
// nullopt: may not be asked.
[[nodiscard]] std::optional<std::vector<LoadedProgram>> loaded_programs();
[[nodiscard]] Finding judge_programs(const std::optional<std::vector<LoadedProgram>>& programs);

} // namespace bulkhead::cli
