// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/cgroups.h"
#include "agent/datapath/datapath.h"

#include <chrono>
#include <set>
#include <span>

namespace bulkhead::agent {

// What keys of bh_listeners have for any address, and for any of IPv4.
inline constexpr bh_address any_v6{};
inline constexpr bh_address any_v4{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}};

// Descriptors of bh_listeners and bh_listener_holders, not owned.
struct ListenerMaps {
    int table;
    int holders;
};

// Makes bh_listeners say what a walk found, for the sockets that are in scope. `namespaces`: the inode
// numbers of the network namespaces that the walk was in. Entries that the kernel made since `walk_began`
// (CLOCK_MONOTONIC) are newer than the walk and stay. Nobody is given more than his share of the table, and what each
// has is counted anew.
[[nodiscard]] Status adopt_walked_listeners(const ListenerMaps& maps, std::span<const WalkedSocket> sockets,
                                            CgroupTree& cgroups,
                                            const std::set<std::uint32_t>& namespaces,
                                            std::chrono::nanoseconds walk_began);

} // namespace bulkhead::agent
