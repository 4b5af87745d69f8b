// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"

#include <functional>
#include <map>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace bulkhead::agent {

// Who listens where, from one walk: TCP sockets in LISTEN and unconnected UDP sockets. Borrows the sockets.
class ListenerIndex {
public:
    explicit ListenerIndex(std::span<const WalkedSocket> sockets);

    // The listener that a packet to this local address and port of a network namespace reaches: the exact address, else
    // the wildcard of its family, else a dual-stack one. Of several on one key (SO_REUSEPORT) the first in walk order.
    // nullptr: nobody.
    [[nodiscard]] const WalkedSocket* find(std::uint32_t netns, std::uint8_t protocol, const bh_address& local,
                                           std::uint16_t port) const;

    // Of TCP, those of a namespace and cgroup that may accept what was not meant for their address and port (TPROXY).
    // One for each port and program, and no more than `most_proxies`: anybody can make transparent listeners in a
    // namespace of his own, and each of his sessions is judged by all of them.
    static constexpr std::size_t most_proxies = 128;
    [[nodiscard]] std::span<const WalkedSocket* const> proxies(std::uint32_t netns, std::uint64_t cgroup_id) const;

private:
    struct Hash {
        std::size_t operator()(const bh_listener_key& key) const noexcept;
    };
    struct Equal {
        bool operator()(const bh_listener_key& a, const bh_listener_key& b) const noexcept;
    };
    std::unordered_map<bh_listener_key, const WalkedSocket*, Hash, Equal> listeners_;
    std::map<std::pair<std::uint32_t, std::uint64_t>, std::vector<const WalkedSocket*>> proxies_;
};

} // namespace bulkhead::agent
