// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/frames.h"

#include "tests/bpf/sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace bulkhead::test {

namespace {

constexpr const char* wire = "bh0";

bool is_v6(const std::string& packet)
{
    return (static_cast<unsigned char>(packet.at(0)) >> 4) == 6;
}

std::uint16_t checksum(const std::string& bytes)
{
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
        const auto high = static_cast<unsigned char>(bytes[i]);
        const auto low = i + 1 < bytes.size() ? static_cast<unsigned char>(bytes[i + 1]) : 0;
        sum += static_cast<std::uint32_t>(high << 8 | low);
    }
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons(static_cast<std::uint16_t>(~sum));
}

template <typename T>
std::string bytes_of(const T& value)
{
    return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

void set_header(std::string& packet, iphdr header)
{
    header.tot_len = htons(static_cast<std::uint16_t>(packet.size()));
    header.check = 0;
    const auto size = static_cast<std::size_t>(header.ihl * 4);
    std::memcpy(packet.data(), &header, sizeof(header));
    header.check = checksum(packet.substr(0, size));
    std::memcpy(packet.data(), &header, sizeof(header));
}

} // namespace

std::string ip_packet(std::string_view from, std::string_view to, std::uint8_t protocol, const std::string& payload)
{
    const Address source(from, 0), destination(to, 0);
    if (source.family() == AF_INET6) {
        ip6_hdr header{};
        header.ip6_vfc = 0x60;
        header.ip6_plen = htons(static_cast<std::uint16_t>(payload.size()));
        header.ip6_nxt = protocol;
        header.ip6_hlim = 64;
        std::memcpy(&header.ip6_src, &reinterpret_cast<const sockaddr_in6*>(source.get())->sin6_addr, 16);
        std::memcpy(&header.ip6_dst, &reinterpret_cast<const sockaddr_in6*>(destination.get())->sin6_addr, 16);
        return bytes_of(header) + payload;
    }
    iphdr header{};
    header.version = 4;
    header.ihl = 5;
    header.ttl = 64;
    header.protocol = protocol;
    std::memcpy(&header.saddr, &reinterpret_cast<const sockaddr_in*>(source.get())->sin_addr, 4);
    std::memcpy(&header.daddr, &reinterpret_cast<const sockaddr_in*>(destination.get())->sin_addr, 4);
    std::string packet = bytes_of(header) + payload;
    set_header(packet, header);
    return packet;
}

std::string tcp_packet(std::string_view from, std::string_view to, std::uint16_t from_port, std::uint16_t to_port,
                       std::uint8_t flags)
{
    tcphdr header{};
    header.th_sport = htons(from_port);
    header.th_dport = htons(to_port);
    header.th_off = 5;
    header.th_flags = flags;
    return ip_packet(from, to, IPPROTO_TCP, bytes_of(header));
}

std::string tcp_segment(std::string_view from, std::string_view to, std::uint16_t from_port, std::uint16_t to_port,
                        std::uint8_t flags, std::uint32_t sequence, std::uint32_t acknowledged)
{
    std::string packet = tcp_packet(from, to, from_port, to_port, flags);
    tcphdr header{};
    std::memcpy(&header, packet.data() + sizeof(iphdr), sizeof(header));
    header.th_seq = htonl(sequence);
    header.th_ack = htonl(acknowledged);
    header.th_win = htons(1000);
    const std::string pseudo = packet.substr(offsetof(iphdr, saddr), 8) + std::string{'\0', IPPROTO_TCP, '\0', 20};
    header.th_sum = checksum(pseudo + bytes_of(header));
    std::memcpy(packet.data() + sizeof(iphdr), &header, sizeof(header));
    return packet;
}

std::string icmp_echo(std::uint16_t identifier)
{
    icmphdr header{};
    header.type = ICMP_ECHO;
    header.un.echo.id = htons(identifier);
    header.checksum = checksum(bytes_of(header));
    return bytes_of(header);
}

std::string with_icmp_checksum(std::string message)
{
    message[2] = message[3] = 0;
    const std::uint16_t sum = checksum(message);
    std::memcpy(message.data() + 2, &sum, sizeof(sum));
    return message;
}

std::string icmp_error(std::uint8_t type, std::uint8_t code, const std::string& quoted)
{
    std::string message = icmp_echo(0);
    message[0] = static_cast<char>(type);
    message[1] = static_cast<char>(code);
    message[2] = message[3] = message[6] = message[7] = 0;
    message += quoted;
    return with_icmp_checksum(message);
}

std::string with_source_route(const std::string& packet)
{
    iphdr header{};
    std::memcpy(&header, packet.data(), sizeof(header));
    const std::string option{'\x83', '\x07', '\x04', '\x0a', '\x4d', '\x00', '\x03', '\x00'}; // via 10.77.0.3
    std::string routed = packet.substr(0, sizeof(header)) + option + packet.substr(sizeof(header));
    header.ihl = 7;
    set_header(routed, header);
    return routed;
}

std::string with_routing_header(const std::string& packet)
{
    ip6_hdr header{};
    std::memcpy(&header, packet.data(), sizeof(header));
    std::string routing(24, '\0');
    routing[0] = static_cast<char>(header.ip6_nxt);
    routing[1] = 2; // in units of 8 bytes, less the first
    routing[2] = 2; // type 2 (RFC 6275)
    routing[3] = 1; // segments left
    header.ip6_nxt = IPPROTO_ROUTING;
    header.ip6_plen = htons(static_cast<std::uint16_t>(ntohs(header.ip6_plen) + routing.size()));
    return bytes_of(header) + routing + packet.substr(sizeof(header));
}

int send_frame(const std::string& packet)
{
    const auto protocol = static_cast<std::uint16_t>(is_v6(packet) ? ETH_P_IPV6 : ETH_P_IP);
    const UniqueFd fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strncpy(request.ifr_name, wire, IFNAMSIZ - 1);
    if (!fd || ::ioctl(fd.get(), SIOCGIFHWADDR, &request) != 0)
        return errno;
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_protocol = htons(protocol);
    to.sll_ifindex = static_cast<int>(::if_nametoindex(wire));
    to.sll_halen = ETH_ALEN;
    std::memcpy(to.sll_addr, request.ifr_hwaddr.sa_data, ETH_ALEN);
    to.sll_addr[5] = to.sll_addr[5] == 1 ? 2 : 1; // the two ends of the wire
    const auto sent =
        ::sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to));
    return sent < 0 ? errno : 0;
}

int send_frame_ip(std::string_view to, const std::string& icmp)
{
    const UniqueFd fd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
    if (!fd)
        return errno;
    return send_to_error(fd, Address(to, 0), icmp);
}

bool pings(std::string_view address)
{
    const std::string command = "ping -n -c 1 -W 1 " + std::string(address) + " >/dev/null 2>&1";
    return std::system(command.c_str()) == 0; // NOLINT(cert-env33-c): a real peer, with our own words
}

UniqueFd tunnel_device(const char* name)
{
    UniqueFd device(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    std::strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
    if (device && ::ioctl(device.get(), TUNSETIFF, &request) != 0)
        device = {};
    return device;
}

bool ping_answered(const UniqueFd& tunnel)
{
    std::array<char, 2048> packet{};
    pollfd waiting{tunnel.get(), POLLIN, 0};
    while (::poll(&waiting, 1, 300) > 0)
        if (const auto size = ::read(tunnel.get(), packet.data(), packet.size());
            size >= 28 && packet[0] == 0x45 && packet[9] == IPPROTO_ICMP && packet[20] == 0)
            return true;
    return false;
}

Sniffer::Sniffer(const Netns& netns)
{
    std::thread([&] {
        if (::setns(netns.fd(), CLONE_NEWNET) == 0)
            fd_ = UniqueFd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    }).join();
    if (!fd_)
        throw std::runtime_error("cannot open a packet socket");
}

void Sniffer::listen()
{
    std::array<char, 4096> buffer{};
    pollfd waiting{fd_.get(), POLLIN, 0};
    while (::poll(&waiting, 1, 150) > 0) {
        sockaddr_ll from{};
        socklen_t size = sizeof(from);
        const auto length =
            ::recvfrom(fd_.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (length > 0 && from.sll_pkttype != PACKET_OUTGOING)
            packets_.emplace_back(buffer.data(), static_cast<std::size_t>(length));
    }
}

bool Sniffer::saw_tcp(std::string_view to, std::uint16_t port)
{
    listen();
    const auto wanted = tcp_packet(to, to, 0, port, 0);
    return std::any_of(packets_.begin(), packets_.end(), [&](const std::string& packet) {
        const bool v6 = is_v6(packet);
        if (v6 != is_v6(wanted))
            return false;
        const std::size_t address = v6 ? offsetof(ip6_hdr, ip6_dst) : offsetof(iphdr, daddr);
        const std::size_t header = v6 ? sizeof(ip6_hdr) : sizeof(iphdr);
        return packet.size() >= header + 4 && packet.compare(address, v6 ? 16 : 4, wanted, address, v6 ? 16 : 4) == 0 &&
               packet.compare(header + 2, 2, wanted, header + 2, 2) == 0;
    });
}

std::optional<std::uint32_t> Sniffer::syn_ack()
{
    listen();
    for (const auto& packet : packets_) {
        tcphdr header{};
        if (is_v6(packet) || packet.size() < sizeof(iphdr) + sizeof(header) ||
            packet[offsetof(iphdr, protocol)] != IPPROTO_TCP)
            continue;
        std::memcpy(&header, packet.data() + sizeof(iphdr), sizeof(header));
        if (header.th_flags == (TH_SYN | TH_ACK))
            return ntohl(header.th_seq);
    }
    return std::nullopt;
}

bool Sniffer::saw_protocol(std::uint8_t protocol)
{
    listen();
    return std::any_of(packets_.begin(), packets_.end(), [&](const std::string& packet) {
        const std::size_t at = is_v6(packet) ? offsetof(ip6_hdr, ip6_nxt) : offsetof(iphdr, protocol);
        return packet.size() > at && static_cast<std::uint8_t>(packet[at]) == protocol;
    });
}

} // namespace bulkhead::test
