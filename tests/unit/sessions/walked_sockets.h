// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "common/net/ip.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace bulkhead::agent {

// Sockets as a walk finds them.
inline bh_address address(const std::string& text)
{
    bh_address result{};
    std::memcpy(result.byte, IpAddress::parse(text)->bytes.data(), sizeof(result.byte));
    return result;
}

struct SocketSpec {
    std::uint64_t cookie = 1;
    std::string local = "10.0.0.1";
    std::uint16_t local_port = 40000;
    std::string remote = "10.0.0.2";
    std::uint16_t remote_port = 443;
    std::uint8_t state = TCP_ESTABLISHED;
    std::uint8_t protocol = IPPROTO_TCP;
    std::uint32_t pid = 100;
    std::uint64_t cgroup = 7;
    std::uint8_t v6only = 0;
    std::uint32_t netns = 0;
    std::uint8_t opened = BH_OPENED_BY_CONNECT;
    std::uint8_t transparent = 0;
};

inline WalkedSocket make(const SocketSpec& spec)
{
    WalkedSocket walked;
    walked.socket.cookie = spec.cookie;
    walked.socket.local = address(spec.local);
    walked.socket.remote = address(spec.remote);
    walked.socket.local_port = spec.local_port;
    walked.socket.remote_port = spec.remote_port;
    walked.socket.state = spec.state;
    walked.socket.protocol = spec.protocol;
    walked.socket.cgroup_id = spec.cgroup;
    walked.socket.uid = 33;
    walked.socket.v6only = spec.v6only;
    walked.socket.netns = spec.netns;
    walked.socket.opened = spec.opened;
    walked.socket.transparent = spec.transparent;
    walked.owner.pid = spec.pid;
    walked.owner.cgroup_id = spec.cgroup;
    return walked;
}

inline WalkedSocket listener(const std::string& local, std::uint16_t port, std::uint32_t pid = 1,
                             std::uint8_t v6only = 0)
{
    return make({.cookie = 1000U + port,
                 .local = local,
                 .local_port = port,
                 .remote = "::",
                 .remote_port = 0,
                 .state = TCP_LISTEN,
                 .pid = pid,
                 .v6only = v6only});
}

} // namespace bulkhead::agent
