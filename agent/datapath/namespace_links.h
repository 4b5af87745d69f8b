// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/net/ip.h"

#include <set>

namespace bulkhead::agent {

// What a network namespace is joined to others by.
struct NamespaceLinks {
    Result<std::set<IpAddress>> own; // addresses that count as loopback there; fails where there are too many
    // Packets come to it that the guard on the guarded namespace's interfaces does not judge on their way: one of its
    // interfaces is a device's own (moved into it), or stands on one of the guarded namespace's (macvlan, ipvlan,
    // VLAN). False, too, where that cannot be told.
    bool past_guard = false;
};

// Of the calling thread's namespace. Fails where there are too many interfaces: anybody can make any number.
[[nodiscard]] Result<NamespaceLinks> namespace_links(int guarded_netns);

} // namespace bulkhead::agent
