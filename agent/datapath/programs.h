// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/kernel_features.h"
#include "agent/datapath/pins.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

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

// Programs that most hosts never need, loaded when they are needed. Not thread-safe.
class SparePrograms {
public:
    // `skeleton` has its maps, and outlives this.
    SparePrograms(::datapath& skeleton, std::vector<std::string_view> names, bool follow_each_call)
        : maps_(skeleton), names_(std::move(names)), follow_each_call_(follow_each_call)
    {}

    // Does nothing when they are loaded. What failed is tried again after a pause, which doubles up to ten seconds;
    // until then the error is the same.
    [[nodiscard]] Status load();
    // -1: not loaded.
    [[nodiscard]] int program(std::string_view name) const;

private:
    static constexpr std::chrono::seconds longest_pause{10};
    [[nodiscard]] Status load_anew();

    ::datapath& maps_;
    std::vector<std::string_view> names_;
    bool follow_each_call_;
    std::vector<UniqueFd> programs_; // as in names_
    std::optional<Error> failure_;
    std::chrono::seconds pause_{1};
    std::chrono::steady_clock::time_point again_at_;
};

struct LoadedPrograms {
    Skeleton skeleton;
    KernelFeatures features;
    PinnedMaps maps;
    std::shared_ptr<SparePrograms> bare_guards; // for interfaces without an Ethernet header (tun, WireGuard, tunnels)
    std::shared_ptr<SparePrograms> elsewhere;   // the inbound door of namespaces beside the agent's own
    std::shared_ptr<SparePrograms> early_drop;  // of a quarantine, by XDP
    std::shared_ptr<SparePrograms> ingress;     // of sockets where no inbound door stands
};

// Loads all other programs over the pinned maps, or over new ones whose control word says "no plane" and which are not
// pinned yet; so also beside pinned maps of another layout. Attaches nothing.
[[nodiscard]] Result<LoadedPrograms> load_programs(const PinFolder& pins, const ProgramSettings& settings);

} // namespace bulkhead::agent
