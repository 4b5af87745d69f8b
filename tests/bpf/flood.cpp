// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/flood.h"

#include "common/core/unique_fd.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <random>

namespace bulkhead::test {

namespace {

struct Syn {
    iphdr ip;
    tcphdr tcp;
};
static_assert(sizeof(Syn) == 40);

std::uint32_t sum_of(const void* data, std::size_t size)
{
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i + 1 < size; i += 2) {
        std::uint16_t word = 0;
        std::memcpy(&word, static_cast<const char*>(data) + i, sizeof(word));
        sum += word;
    }
    return sum;
}

// RFC 9293, section 3.1. The kernel fills in the checksum of the IP header (raw(7)).
std::uint16_t tcp_checksum(const Syn& syn)
{
    std::uint32_t sum =
        sum_of(&syn.ip.saddr, 8) + htons(IPPROTO_TCP) + htons(sizeof(tcphdr)) + sum_of(&syn.tcp, sizeof(syn.tcp));
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

Syn make_syn(in_addr_t from, in_addr_t to, std::uint16_t source_port, std::uint16_t port)
{
    Syn syn{};
    syn.ip.version = 4;
    syn.ip.ihl = 5;
    syn.ip.ttl = 64;
    syn.ip.protocol = IPPROTO_TCP;
    syn.ip.tot_len = htons(sizeof(syn));
    syn.ip.saddr = from;
    syn.ip.daddr = to;
    syn.tcp.source = htons(source_port);
    syn.tcp.dest = htons(port);
    syn.tcp.doff = 5;
    syn.tcp.syn = 1;
    syn.tcp.window = htons(1024);
    syn.tcp.check = tcp_checksum(syn);
    return syn;
}

} // namespace

Flood::Flood(const Netns& netns, FloodPlan plan)
    : thread_([this, fd = netns.fd(), plan = std::move(plan)] {
          send_all(fd, plan);
          over_ = true;
      })
{}

void Flood::send_all(int netns, const FloodPlan& plan)
{
    if (::setns(netns, CLONE_NEWNET) != 0) // of this thread alone
        return;
    const UniqueFd socket(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
    const in_addr_t to = ::inet_addr(plan.to.c_str());
    const std::uint32_t first = ntohl(::inet_addr(plan.from.c_str()));
    std::minstd_rand random(1);
    constexpr std::size_t at_once = 64;
    std::array<Syn, at_once> packets{};
    std::array<iovec, at_once> parts{};
    std::array<mmsghdr, at_once> messages{};
    sockaddr_in destination{};
    destination.sin_family = AF_INET;
    destination.sin_addr.s_addr = to;
    while (socket && sent_ < plan.packets) {
        const std::size_t count = std::min<std::uint64_t>(at_once, plan.packets - sent_);
        for (std::size_t i = 0; i < count; ++i) {
            const auto source = first + static_cast<std::uint32_t>(random()) % plan.sources;
            const auto source_port = static_cast<std::uint16_t>(1024 + random() % 60000);
            packets[i] = make_syn(htonl(source), to, source_port, plan.ports[random() % plan.ports.size()]);
            parts[i] = {&packets[i], sizeof(Syn)};
            messages[i].msg_hdr = {};
            messages[i].msg_hdr.msg_name = &destination;
            messages[i].msg_hdr.msg_namelen = sizeof(destination);
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        const int done = ::sendmmsg(socket.get(), messages.data(), static_cast<unsigned>(count), 0);
        if (done < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
            return;
        sent_ += static_cast<std::uint64_t>(std::max(done, 0));
    }
}

} // namespace bulkhead::test
