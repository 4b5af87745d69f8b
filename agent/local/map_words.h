// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/events/flow_assembler.h"
#include "local.pb.h"

#include <cstddef>
#include <memory>
#include <vector>

namespace bulkhead::agent {

// What the kernel holds at one moment. The view is that of the planes in force, which are frozen: nobody can have
// changed them since they were made from it.
struct KernelContents {
    bh_control control{};
    TrialState trial;
    std::shared_ptr<const PolicyView> view; // null: none
    KernelListeners listeners;
    std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>> udp_flows;
    std::vector<bh_denial> denials;
    MonotonicTime now{};
};

// In words, at most `limit` lines a table (0: all). Pure.
[[nodiscard]] v1::LocalMaps describe_maps(const KernelContents& contents, std::size_t limit);

} // namespace bulkhead::agent
