// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/abi/bulkhead.h"
#include "common/net/ip.h"

#include <array>
#include <cstdint>
#include <string>

namespace bulkhead::agent {

[[nodiscard]] IpAddress to_ip(const bh_address& address);

// As far as flows go: 0 is the network namespace that the guard is in, and what does not tell is taken to be there.
// Addresses and ports of different namespaces are different ones; anybody may give himself the host's in his own.
[[nodiscard]] std::uint32_t other_netns(std::uint32_t inode, std::uint32_t guarded);

// The two ends of a connection, as this host sees them.
struct FlowTuple {
    IpAddress local, remote;
    std::uint16_t local_port = 0, remote_port = 0;
    std::uint8_t protocol = 0;
    std::uint32_t netns = 0; // see other_netns()
    bool operator==(const FlowTuple&) const = default;
};
[[nodiscard]] FlowTuple tuple_of(const bh_event& event, std::uint32_t guarded);
[[nodiscard]] FlowTuple tuple_of(const bh_walked_socket& socket, std::uint32_t guarded);
[[nodiscard]] FlowTuple tuple_of(const bh_udp_flow_key& key, std::uint32_t guarded); // without local address

// What names a flow while it lives. TCP: the socket's cookie. UDP outbound, and of a connected socket that answers:
// cookie and peer, since one unconnected socket talks to many. UDP inbound, where no cookie is known at the door: peer,
// local port and namespace.
struct FlowKey {
    std::uint64_t cookie = 0;
    IpAddress remote;
    std::uint16_t remote_port = 0, local_port = 0;
    std::uint8_t protocol = 0;
    std::uint32_t netns = 0; // see other_netns()
    bool operator==(const FlowKey&) const = default;

    static FlowKey tcp(std::uint64_t cookie);
    static FlowKey udp(std::uint8_t direction, std::uint64_t cookie, const FlowTuple& tuple);
};

struct FlowHash {
    std::size_t operator()(const FlowTuple& tuple) const noexcept;
    std::size_t operator()(const FlowKey& key) const noexcept;
};

// 128 bits, the same in every record of a flow, also when the agent was restarted between two of them: a digest of who
// (boot, agent), the key, the peer and `salt`. Salts tell apart what has the same key: the second in which a UDP
// conversation began, 0 for TCP flows (a cookie is given once a boot).
using FlowId = std::array<std::uint8_t, 16>;
[[nodiscard]] FlowId make_flow_id(const std::string& boot_id, const std::string& agent_id, const FlowKey& key,
                                  const FlowTuple& tuple, std::uint64_t salt);

// The same for all refused attempts of one kind (struct bh_denial_key), for as long as the host is up.
[[nodiscard]] FlowId make_denial_id(const std::string& boot_id, const std::string& agent_id, const bh_event& event,
                                    std::uint32_t guarded);

} // namespace bulkhead::agent
