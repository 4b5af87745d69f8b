// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/unique_fd.h"
#include "tests/bpf/sandbox.h"

#include <netinet/tcp.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::test {

// Packets made by hand, as an attacker would. All are the bytes from the IP header on.
[[nodiscard]] std::string ip_packet(std::string_view from, std::string_view to, std::uint8_t protocol,
                                    const std::string& payload);
[[nodiscard]] std::string tcp_packet(std::string_view from, std::string_view to, std::uint16_t from_port,
                                     std::uint16_t to_port, std::uint8_t flags);
inline constexpr std::uint8_t tcp_syn = TH_SYN;
// With sequence numbers and a valid checksum, for a kernel to take; IPv4 only.
[[nodiscard]] std::string tcp_segment(std::string_view from, std::string_view to, std::uint16_t from_port,
                                      std::uint16_t to_port, std::uint8_t flags, std::uint32_t sequence,
                                      std::uint32_t acknowledged);
[[nodiscard]] std::string icmp_echo(std::uint16_t identifier); // an ICMP message, for IPv4
[[nodiscard]] std::string with_icmp_checksum(std::string message);
// As a router would send it: type, code, and the packet that it is about.
[[nodiscard]] std::string icmp_error(std::uint8_t type, std::uint8_t code, const std::string& quoted);
// The same packet with a loose source route option (IPv4), with a routing header that has a segment left (IPv6).
[[nodiscard]] std::string with_source_route(const std::string& packet);
[[nodiscard]] std::string with_routing_header(const std::string& packet);

// In the calling thread's namespace, on the wire. 0 or errno.
[[nodiscard]] int send_frame(const std::string& packet);                       // by an AF_PACKET socket
[[nodiscard]] int send_frame_ip(std::string_view to, const std::string& icmp); // by a raw ICMP socket

// ping(8), once.
[[nodiscard]] bool pings(std::string_view address);

// As of a VPN, in the calling thread's namespace: its other end writes and reads whole IP packets. Nothing where it cannot
// be made.
[[nodiscard]] UniqueFd tunnel_device(const char* name);
// The answer to an IPv4 ping comes out within a moment.
[[nodiscard]] bool ping_answered(const UniqueFd& tunnel);

// Sees all that arrives in a namespace, from its making on.
class Sniffer {
public:
    explicit Sniffer(const Netns& netns);
    [[nodiscard]] bool saw_tcp(std::string_view to, std::uint16_t port);
    [[nodiscard]] bool saw_protocol(std::uint8_t protocol);
    // Sequence number of the first IPv4 SYN-ACK that was seen.
    [[nodiscard]] std::optional<std::uint32_t> syn_ack();

private:
    void listen();

    UniqueFd fd_;
    std::vector<std::string> packets_;
};

} // namespace bulkhead::test
