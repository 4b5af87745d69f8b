// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/kernel_features.h"
#include "agent/datapath/pins.h"

namespace bulkhead::agent {

struct ProgramSettings {
    bool scope_is_root = false;
    std::uint32_t guarded_netns = 0; // inode number
    std::uint64_t scope_cgroup = 0;
    std::uint32_t scope_level = 0; // 0: the root
    bool guard_namespace = false;  // also what belongs to no socket of the enforced cgroup
    bool refuse_silently = false;
    bool only_oldest_features = false;
};

// What libbpf says goes to the debug log from now on; its own way is standard error.
void log_libbpf_messages();

struct LoadedPrograms {
    Skeleton skeleton;
    KernelFeatures features;
    PinnedMaps maps;
};

// Loads all programs over the pinned maps, or over new ones whose control word says "no plane" and which are not pinned
// yet; so also beside pinned maps of another layout. Attaches nothing.
[[nodiscard]] Result<LoadedPrograms> load_programs(const PinFolder& pins, const ProgramSettings& settings);

} // namespace bulkhead::agent
