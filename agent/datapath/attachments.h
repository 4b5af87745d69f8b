// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/pins.h"

#include <cstdint>

namespace bulkhead::agent {

// Where the programs act.
struct AttachPoint {
    int cgroup = -1; // folder, borrowed
    std::uint64_t cgroup_id = 0;
    int netns = -1; // borrowed
    std::uint32_t netns_inode = 0;
};

// Puts every program to its hook: a pinned link that lives gets the new program in place, without a moment in which
// none runs; one that is missing or dead is made anew and pinned. On failure everything is as it was.
[[nodiscard]] Status attach_programs(const PinFolder& pins, const AttachPoint& where, ::datapath& skeleton);

} // namespace bulkhead::agent
