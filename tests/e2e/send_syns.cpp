// SPDX-License-Identifier: Apache-2.0
// A flood of SYNs from the namespace that it is started in, as fast as a network card could bring them. For tests.
#include "common/core/unique_fd.h"
#include "tests/bpf/flood.h"

#include <CLI/CLI.hpp>
#include <fcntl.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace bulkhead::test {
namespace {

struct Outcome {
    const char* way;
    std::uint64_t sent;
    int error;
    double seconds;
};

Outcome flood(Flood::Way way, const char* name, const FloodPlan& plan)
{
    const UniqueFd here(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    Flood flood(here.get(), way, plan);
    flood.join();
    return {name, flood.sent(), flood.error(), flood.took().count()};
}

int run(int argc, char** argv)
{
    FloodPlan plan;
    int seconds = 30;
    CLI::App app("Sends SYNs to ports at random and prints {\"way\", \"sent\", \"seconds\"}. They go out of the device "
                 "as live frames\n(Linux 5.18; the other end of a veth needs GRO or an XDP program), or by a raw "
                 "socket where there are none.",
                 "send_syns");
    app.add_option("--device", plan.device)->required();
    app.add_option("--receiver", plan.receiver, "its link address")->required();
    app.add_option("--from", plan.from)->required();
    app.add_option("--to", plan.to)->required();
    app.add_option("--port", plan.port, "the first")->required();
    app.add_option("--ports", plan.ports, "how many")->required();
    app.add_option("--count", plan.packets)->required();
    app.add_option("--rate", plan.per_second, "a second; 0: as fast as it goes")->required();
    app.add_option("--threads", plan.threads)->check(CLI::Range(1, 64));
    app.add_option("--seconds", seconds, "at most")->check(CLI::Range(1, 300));
    CLI11_PARSE(app, argc, argv);
    plan.at_most = std::chrono::seconds(seconds);

    auto outcome = flood(Flood::Way::transmitted, "live frames", plan);
    if (outcome.sent == 0 && outcome.error == EINVAL)
        outcome = flood(Flood::Way::sent, "raw socket", plan);
    std::printf("{\"way\": \"%s\", \"sent\": %llu, \"seconds\": %.3f}\n", outcome.way,
                static_cast<unsigned long long>(outcome.sent), outcome.seconds);
    if (outcome.error != 0)
        std::fprintf(stderr, "send_syns: %s\n", std::strerror(outcome.error));
    return outcome.error == 0 ? 0 : 1;
}

} // namespace
} // namespace bulkhead::test

int main(int argc, char** argv)
{
    return bulkhead::test::run(argc, argv);
}
