// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/flood.h"

#include "common/core/unique_fd.h"
#include "syn_flood.skel.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
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

struct Frame {
    ethhdr ether;
    Syn syn;
} __attribute__((packed));

// What a frame begins with that the receiver takes for its own.
ethhdr header_of(const FloodPlan& plan)
{
    ethhdr header{};
    ifreq request{};
    header.h_proto = htons(ETH_P_IP);
    if (ether_addr address{}; ::ether_aton_r(plan.receiver.c_str(), &address) != nullptr) {
        std::memcpy(header.h_dest, &address, ETH_ALEN);
        return header;
    }
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    std::strncpy(request.ifr_name, plan.device.c_str(), IFNAMSIZ - 1);
    if (::ioctl(socket.get(), SIOCGIFHWADDR, &request) == 0)
        std::memcpy(header.h_dest, request.ifr_hwaddr.sa_data, ETH_ALEN);
    return header;
}

} // namespace

void Flood::Destroy::operator()(syn_flood* program) const
{
    syn_flood::destroy(program);
}

Flood::Flood(int netns, Way way, const FloodPlan& plan) : deadline_(begun_ + plan.at_most)
{
    const std::uint64_t each = plan.packets / plan.threads;
    for (unsigned i = 0; i < plan.threads && way != Way::sent; ++i)
        if (auto program = load(plan, each, way == Way::transmitted))
            programs_.push_back(std::move(program));
    if (error_ != 0)
        return;
    for (unsigned i = 0; i < plan.threads; ++i)
        threads_.emplace_back([this, i, way, netns, plan, each] {
            if (::setns(netns, CLONE_NEWNET) != 0) // of this thread alone
                error_ = errno;
            else if (way == Way::sent)
                send(plan, each);
            else
                send_live_frames(plan, *programs_[i], each);
            ++ended_;
        });
}

std::uint64_t Flood::sent() const
{
    std::uint64_t sum = sent_;
    for (const auto& program : programs_)
        sum += __atomic_load_n(&program->bss->sent, __ATOMIC_RELAXED); // which the kernel is writing
    return sum;
}

std::chrono::duration<double> Flood::took() const
{
    if (programs_.empty())
        return std::chrono::nanoseconds(last_ns_);
    std::uint64_t begun = UINT64_MAX, last = 0;
    for (const auto& program : programs_) {
        begun = std::min<std::uint64_t>(begun, program->bss->begun_ns);
        last = std::max<std::uint64_t>(last, program->bss->last_ns);
    }
    return std::chrono::nanoseconds(last > begun ? last - begun : 0);
}

void Flood::join()
{
    for (auto& thread : threads_)
        if (thread.joinable())
            thread.join();
}

void Flood::send(const FloodPlan& plan, std::uint64_t packets)
{
    const UniqueFd socket(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
    const in_addr_t to = ::inet_addr(plan.to.c_str());
    const std::uint32_t first = ntohl(::inet_addr(plan.from.c_str()));
    std::minstd_rand random(1);
    constexpr std::size_t at_once = 64;
    std::array<Syn, at_once> syns{};
    std::array<iovec, at_once> parts{};
    std::array<mmsghdr, at_once> messages{};
    sockaddr_in destination{};
    destination.sin_family = AF_INET;
    destination.sin_addr.s_addr = to;
    for (std::uint64_t left = packets; socket && left > 0 && !is_time_over();) {
        const std::size_t count = std::min<std::uint64_t>(at_once, left);
        for (std::size_t i = 0; i < count; ++i) {
            const auto source = first + static_cast<std::uint32_t>(random()) % plan.sources;
            const auto source_port = static_cast<std::uint16_t>(1024 + random() % 60000);
            const auto port = static_cast<std::uint16_t>(plan.port + random() % plan.ports);
            syns[i] = make_syn(htonl(source), to, source_port, port);
            parts[i] = {&syns[i], sizeof(Syn)};
            messages[i].msg_hdr = {};
            messages[i].msg_hdr.msg_name = &destination;
            messages[i].msg_hdr.msg_namelen = sizeof(destination);
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        const int done = ::sendmmsg(socket.get(), messages.data(), static_cast<unsigned>(count), 0);
        if (done < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR) {
            error_ = errno;
            return;
        }
        sent_ += static_cast<std::uint64_t>(std::max(done, 0));
        left -= static_cast<std::uint64_t>(std::max(done, 0));
        last_ns_ = (Clock::now() - begun_).count();
    }
}

Flood::Program Flood::load(const FloodPlan& plan, std::uint64_t packets, bool transmit)
{
    Program program(syn_flood::open());
    if (program) {
        const auto deadline = std::chrono::duration_cast<std::chrono::nanoseconds>(deadline_.time_since_epoch());
        program->rodata->first_source = ntohl(::inet_addr(plan.from.c_str()));
        program->rodata->sources = plan.sources;
        program->rodata->first_port = plan.port;
        program->rodata->ports = plan.ports;
        program->rodata->action = transmit ? XDP_TX : XDP_PASS;
        program->rodata->packets = packets;
        program->rodata->interval_ns = plan.per_second == 0 ? 0 : 1'000'000'000 * plan.threads / plan.per_second;
        program->rodata->deadline_ns = static_cast<std::uint64_t>(deadline.count());
        if (syn_flood::load(program.get()) == 0)
            return program;
    }
    error_ = errno;
    return {};
}

void Flood::send_live_frames(const FloodPlan& plan, syn_flood& program, std::uint64_t packets)
{
    Frame frame{};
    frame.ether = header_of(plan);
    frame.syn = make_syn(0, ::inet_addr(plan.to.c_str()), 0, 0);
    xdp_md context{};
    context.data_end = sizeof(frame);
    context.ingress_ifindex = ::if_nametoindex(plan.device.c_str());
    while (program.bss->sent < packets && !is_time_over()) {
        // When all is sent or the time is over, what remains of a call takes tenths of a second.
        LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &frame, .data_size_in = sizeof(frame), .ctx_in = &context,
                    .ctx_size_in = sizeof(context), .repeat = 1 << 22, .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
        if (const int code = bpf_prog_test_run_opts(bpf_program__fd(program.progs.syn_flood), &run); code != 0) {
            error_ = -code;
            return;
        }
    }
}

} // namespace bulkhead::test
