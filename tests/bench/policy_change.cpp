// SPDX-License-Identifier: Apache-2.0
// How long it takes to build and switch planes of a stated size, and for how long any CPU was unavailable meanwhile,
// the freeing of the old planes included: a thread of real-time priority on each CPU wakes twice a millisecond and
// measures by how much it is late.
#include "tests/bench/bench_host.h"
#include "tests/bench/go_first.h"
#include "tests/bench/synthetic_plane.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace bulkhead::bench {
namespace {

constexpr long period_ns = 500'000;
constexpr auto settle =
    std::chrono::milliseconds(700); // maps are freed by RCU callbacks and work queues, after the call

std::int64_t now_ns()
{
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

class LatenessWatch {
public:
    LatenessWatch()
        : cpus_(static_cast<std::size_t>(std::max(1, static_cast<int>(std::thread::hardware_concurrency()))))
    {
        for (std::size_t cpu = 0; cpu < cpus_.size(); ++cpu)
            cpus_[cpu].thread = std::thread([this, cpu] { watch(cpu); });
    }
    ~LatenessWatch()
    {
        ends_ = true;
        for (auto& cpu : cpus_)
            cpu.thread.join();
    }
    LatenessWatch(const LatenessWatch&) = delete;
    LatenessWatch& operator=(const LatenessWatch&) = delete;

    // The worst of all CPUs since the last call, in milliseconds.
    double worst_ms()
    {
        std::int64_t worst = 0;
        for (auto& cpu : cpus_)
            worst = std::max(worst, cpu.latest_ns.exchange(0));
        return static_cast<double>(worst) / 1e6;
    }

private:
    struct Cpu {
        std::thread thread;
        std::atomic<std::int64_t> latest_ns{0};
    };

    void watch(std::size_t number)
    {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(number, &set);
        const sched_param first{80};
        if (::sched_setaffinity(0, sizeof(set), &set) != 0)
            return; // a CPU that is not ours to use
        if (::pthread_setschedparam(::pthread_self(), SCHED_FIFO, &first) != 0)
            give_up("take real-time priority");
        std::int64_t due = now_ns();
        while (!ends_) {
            due += period_ns;
            const timespec until{due / 1'000'000'000, due % 1'000'000'000};
            ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
            const std::int64_t late = now_ns() - due;
            if (late > cpus_[number].latest_ns)
                cpus_[number].latest_ns = late;
            if (late > period_ns)
                due += late; // what was missed is not made good
        }
    }

    std::atomic<bool> ends_{false};
    std::vector<Cpu> cpus_;
};

// `planes`: 1, where nothing is tested, or 2.
int run(const char* cgroup, std::size_t entries, int rounds, int planes)
{
    go_first();
    BenchHost host(cgroup);
    const auto image = synthetic_plane(entries, entries, {IpAddress::parse("10.88.0.2").value()}, 5000);
    const policy::PlaneImage nothing;
    const auto& shadow = planes == 1 ? nothing : image;
    host.realise(image, shadow);
    std::vector<double> change_ms, late_ms, idle_ms;
    LatenessWatch watch;
    for (int i = 0; i < rounds; ++i) {
        std::this_thread::sleep_for(settle);
        watch.worst_ms();
        std::this_thread::sleep_for(settle);
        idle_ms.push_back(watch.worst_ms());
        const auto began = now_ns();
        host.realise(image, shadow);
        change_ms.push_back(static_cast<double>(now_ns() - began) / 1e6);
        std::this_thread::sleep_for(settle);
        late_ms.push_back(watch.worst_ms());
    }
    std::puts("{");
    print_samples("change", change_ms);
    print_samples("stall", late_ms);
    print_samples("stall-idle", idle_ms, true);
    std::puts("}");
    return 0;
}

} // namespace
} // namespace bulkhead::bench

int main(int argc, char** argv)
{
    if (argc != 5) {
        std::fputs("usage: bench_policy_change CGROUP ENTRIES ROUNDS PLANES\n", stderr);
        return 2;
    }
    return bulkhead::bench::run(argv[1], std::strtoul(argv[2], nullptr, 10), std::atoi(argv[3]), std::atoi(argv[4]));
}
