// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/events/process_names.h"
#include "common/net/ip.h"

#include <span>
#include <unordered_map>

namespace bulkhead::agent {

// Who listens where, from LISTEN events and socket walks: names the process of an inbound flow whose event does not,
// and tells which way a connection was opened that began before the agent. Bounded.
class ListenerOwners {
public:
    // `netns`: see other_netns().
    void listening(const bh_event& event, std::uint32_t netns, SharedProcess owner);
    void gone(const bh_event& event, std::uint32_t netns);
    void replace(std::span<const WalkedSocket> sockets, std::uint32_t guarded_netns);

    struct Owner {
        bh_subject subject{};
        SharedProcess process; // nullptr: to be described when it is asked for, as there may be very many
        std::uint64_t cookie = 0;
        bool v6only = false;
    };
    // As the kernel finds a socket for a packet: the exact address, the wildcard of its family, a dual-stack one.
    [[nodiscard]] const Owner* find(std::uint32_t netns, std::uint8_t protocol, const IpAddress& local,
                                    std::uint16_t port) const;

private:
    struct Key {
        IpAddress local;
        std::uint16_t port = 0;
        std::uint8_t protocol = 0;
        std::uint32_t netns = 0;
        bool operator==(const Key&) const = default;
    };
    struct Hash {
        std::size_t operator()(const Key& key) const noexcept
        {
            return std::hash<IpAddress>{}(key.local) ^ (std::size_t{key.port} << 8) ^ key.protocol ^
                   (std::size_t{key.netns} << 32);
        }
    };
    [[nodiscard]] const Owner* at(const Key& key) const;

    std::unordered_map<Key, Owner, Hash> owners_;
};

} // namespace bulkhead::agent
