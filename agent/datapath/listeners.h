// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/cgroups.h"
#include "agent/datapath/datapath.h"

#include <chrono>
#include <set>
#include <span>

namespace bulkhead::agent {

// Makes bh_listeners say what a walk found, for the sockets that `in_scope` holds of. `namespaces`: the inode
// numbers of the network namespaces that the walk was in. Entries that the kernel made since `walk_began`
// (CLOCK_MONOTONIC) are newer than the walk and stay.
[[nodiscard]] Status adopt_walked_listeners(int table, std::span<const WalkedSocket> sockets, CgroupTree& cgroups,
                                            const std::function<bool(std::uint64_t)>& in_scope,
                                            const std::set<std::uint32_t>& namespaces,
                                            std::chrono::nanoseconds walk_began);

} // namespace bulkhead::agent
