// SPDX-License-Identifier: Apache-2.0
// What a new connection's verdict takes: run time of the hooks, as the kernel counts it (BPF_ENABLE_STATS), less that
// of an empty program of the same type, attached to a sibling cgroup in the same rounds.
#include "tests/bench/bench_host.h"
#include "tests/bench/go_first.h"
#include "tests/bench/synthetic_plane.h"

#include "common/core/unique_fd.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>

namespace bulkhead::bench {
namespace {

constexpr std::uint16_t port = 5000;
constexpr int connections = 4000; // a round
constexpr int batches = 200;

struct RunTime {
    double nanoseconds = 0, runs = 0;
};

RunTime run_time(int program)
{
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(program, &info, &size) != 0)
        give_up("inspect a program");
    return {static_cast<double>(info.run_time_ns), static_cast<double>(info.run_cnt)};
}

double mean_run(int program, const std::function<void()>& work)
{
    const auto before = run_time(program);
    work();
    const auto after = run_time(program);
    if (after.runs == before.runs)
        give_up("a program did not run");
    return (after.nanoseconds - before.nanoseconds) / (after.runs - before.runs);
}

// The last loaded program of that name: the datapath shows no descriptors.
UniqueFd find_program(const char* name)
{
    __u32 id = 0;
    UniqueFd newest;
    while (bpf_prog_get_next_id(id, &id) == 0) {
        UniqueFd fd(bpf_prog_get_fd_by_id(id));
        bpf_prog_info info{};
        __u32 size = sizeof(info);
        if (fd && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 &&
            std::string_view(name).substr(0, sizeof(info.name) - 1) == info.name)
            newest = std::move(fd); // ids grow: ours was loaded last
    }
    if (!newest)
        give_up(std::string("find the program ") + name);
    return newest;
}

UniqueFd load_empty_connect()
{
    const std::array<bpf_insn, 2> pass = {
        {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}}};
    LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
    UniqueFd fd(bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "bh_empty", "GPL", pass.data(), pass.size(), &options));
    if (!fd)
        give_up("load an empty program");
    return fd;
}

// To nobody: the hook runs, a SYN leaves, the socket is closed.
void connect_to(const IpAddress& peer)
{
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    std::memcpy(&to.sin_addr, peer.bytes.data() + 12, 4);
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), static_cast<const sockaddr*>(static_cast<const void*>(&to)), sizeof(to)) != 0 &&
        errno != EINPROGRESS)
        give_up("connect to " + peer.to_string());
}

class Measure {
public:
    Measure(const std::string& enforced, const std::string& empty, std::size_t entries, std::size_t peers)
        : enforced_(enforced), empty_(empty), peers_(peers - 1), host_(enforced)
    {
        host_.realise(synthetic_plane(entries, peers, {partner()}, port));
        connect_ = find_program("bh_connect4");
        judge_ = find_program("bh_judge_program");
        empty_connect_ = load_empty_connect();
        const UniqueFd cgroup(::open(empty.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        link_ = UniqueFd(bpf_link_create(empty_connect_.get(), cgroup.get(), BPF_CGROUP_INET4_CONNECT, nullptr));
        stats_ = UniqueFd(bpf_enable_stats(BPF_STATS_RUN_TIME));
        if (!link_ || !stats_)
            give_up("attach an empty program and count run time");
    }

    void round()
    {
        enter_cgroup(empty_);
        empty_ns_.push_back(mean_run(empty_connect_.get(), [&] { connect_often(false); }));
        enter_cgroup(enforced_);
        one_peer_ns_.push_back(mean_run(connect_.get(), [&] { connect_often(false); }));
        any_peer_ns_.push_back(mean_run(connect_.get(), [&] { connect_often(true); }));
        verdict_ns_.push_back(mean_run(judge_.get(), [&] { judge_often(false); }) / BH_JUDGE_BATCH);
        any_verdict_ns_.push_back(mean_run(judge_.get(), [&] { judge_often(true); }) / BH_JUDGE_BATCH);
    }

    void print() const
    {
        std::puts("{");
        print_samples("empty-hook", empty_ns_);
        print_samples("connect-hook", one_peer_ns_);
        print_samples("connect-hook-random-peers", any_peer_ns_);
        print_samples("verdict", verdict_ns_);
        print_samples("verdict-random-peers", any_verdict_ns_, true);
        std::puts("}");
    }

private:
    static IpAddress partner() { return IpAddress::parse("10.88.0.2").value(); }
    IpAddress pick(bool random) { return random ? synthetic_peer(numbers_() % peers_) : partner(); }

    void connect_often(bool random)
    {
        for (int i = 0; i < connections; ++i)
            connect_to(pick(random));
    }

    void judge_often(bool random)
    {
        std::vector<bh_judge_request> requests(BH_JUDGE_BATCH);
        for (int i = 0; i < batches; ++i) {
            for (auto& request : requests) {
                request = {};
                std::memcpy(request.remote.byte, pick(random).bytes.data(), sizeof(request.remote.byte));
                request.port = port;
                request.protocol = IPPROTO_TCP;
                request.direction = BH_OUTBOUND;
            }
            take(host_.datapath().judge(requests));
            for (const auto& request : requests)
                if (request.verdict != BH_ALLOWED || request.reason != BH_REASON_RULE)
                    give_up("a verdict is not what the plane says");
        }
    }

    std::string enforced_, empty_;
    std::size_t peers_;
    BenchHost host_;
    UniqueFd connect_, judge_, empty_connect_, link_, stats_;
    std::minstd_rand numbers_;
    std::vector<double> empty_ns_, one_peer_ns_, any_peer_ns_, verdict_ns_, any_verdict_ns_;
};

} // namespace
} // namespace bulkhead::bench

int main(int argc, char** argv)
{
    if (argc != 6) {
        std::fputs("usage: bench_verdict CGROUP EMPTY_CGROUP ENTRIES PEERS ROUNDS\n", stderr);
        return 2;
    }
    bulkhead::bench::go_first();
    bulkhead::bench::Measure measure(argv[1], argv[2], std::strtoul(argv[3], nullptr, 10),
                                     std::strtoul(argv[4], nullptr, 10));
    for (int i = 0; i < std::atoi(argv[5]); ++i)
        measure.round();
    measure.print();
    return 0;
}
