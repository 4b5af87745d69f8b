// SPDX-License-Identifier: Apache-2.0
// How long it takes to walk the live sockets of this network namespace and to judge each again, as the agent does after
// every change of policy.
#include "agent/sessions/sessions.h"
#include "tests/bench/bench_host.h"
#include "tests/bench/go_first.h"
#include "tests/bench/synthetic_plane.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace bulkhead::bench {
namespace {

std::optional<policy::Direction> not_recorded(std::uint64_t)
{
    return std::nullopt;
}

double milliseconds_of(const std::function<void()>& work)
{
    const auto began = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
}

int run(const char* cgroup, const IpAddress& partner, std::uint16_t port, int rounds)
{
    go_first();
    BenchHost host(cgroup);
    host.realise(synthetic_plane(100'000, 100'000, {partner}, port));
    agent::SessionKeeper keeper(host.datapath(), system_clock(), not_recorded);
    const policy::Sessions cut{policy::Sessions::Kind::cut, {}};
    std::vector<double> walk_ms, judged_ms, sockets;
    for (int i = 0; i < rounds; ++i) {
        walk_ms.push_back(milliseconds_of(
            [&] { sockets.push_back(static_cast<double>(take(host.datapath().walk_sockets()).size())); }));
        judged_ms.push_back(milliseconds_of([&] {
            if (!take(keeper.after_switch(cut)).empty())
                give_up("a session that the planes allow is forbidden");
        }));
    }
    std::puts("{");
    print_samples("sockets", sockets);
    print_samples("walk", walk_ms);
    print_samples("walk-and-judge", judged_ms, true);
    std::puts("}");
    return 0;
}

} // namespace
} // namespace bulkhead::bench

int main(int argc, char** argv)
{
    const auto partner = argc == 5 ? bulkhead::IpAddress::parse(argv[2]) : std::nullopt;
    if (!partner) {
        std::fputs("usage: bench_sessions CGROUP PARTNER PORT ROUNDS\n", stderr);
        return 2;
    }
    return bulkhead::bench::run(argv[1], *partner, static_cast<std::uint16_t>(std::atoi(argv[3])), std::atoi(argv[4]));
}
