// SPDX-License-Identifier: Apache-2.0
// Enforces a policy of a stated size on one cgroup until it is told to end: what the agent does with the kernel,
// without documents, which for a million rules would be a benchmark of the parser.
#include "tests/bench/bench_host.h"
#include "tests/bench/synthetic_plane.h"

#include <signal.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv)
{
    using namespace bulkhead;
    const auto partner = argc == 6 ? IpAddress::parse(argv[4]) : std::nullopt;
    if (!partner) {
        std::fputs("usage: bench_guard CGROUP ENTRIES PEERS PARTNER PORT\nPrints \"ready\"; ends with SIGTERM.\n",
                   stderr);
        return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr); // before the reader's thread, so that it inherits this
    bench::BenchHost host(argv[1]);
    host.realise(bench::synthetic_plane(std::strtoul(argv[2], nullptr, 10), std::strtoul(argv[3], nullptr, 10),
                                        {*partner}, static_cast<std::uint16_t>(std::atoi(argv[5]))));
    std::puts("ready");
    std::fflush(stdout);
    int number = 0;
    ::sigwait(&signals, &number);
    return 0;
}
