// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/kernel_features.h"
#include "agent/datapath/pins.h"

#include <chrono>
#include <optional>

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

// The guard's programs for interfaces without an Ethernet header (tun, WireGuard, tunnels), which are loaded when the first
// of these is there. Not thread-safe.
class SparePrograms {
public:
    // `skeleton` has its maps, and outlives this; its programs of that name are those that are loaded here.
    SparePrograms(::datapath& skeleton, bool follow_each_call) : maps_(skeleton), follow_each_call_(follow_each_call) {}

    // Does nothing when they are loaded. What failed is tried again after a pause, which doubles up to ten seconds; until then
    // the error is the same.
    [[nodiscard]] Status load();

private:
    static constexpr std::chrono::seconds longest_pause{10};
    [[nodiscard]] Status load_anew();

    ::datapath& maps_;
    bool follow_each_call_;
    Skeleton team_;
    std::optional<Error> failure_;
    std::chrono::seconds pause_{1};
    std::chrono::steady_clock::time_point again_at_;
};

struct LoadedPrograms {
    Skeleton skeleton;
    KernelFeatures features;
    PinnedMaps maps;
    std::shared_ptr<SparePrograms> spare;
};

// Loads all other programs over the pinned maps, or over new ones whose control word says "no plane" and which are not pinned
// yet; so also beside pinned maps of another layout. Attaches nothing.
[[nodiscard]] Result<LoadedPrograms> load_programs(const PinFolder& pins, const ProgramSettings& settings);

} // namespace bulkhead::agent
