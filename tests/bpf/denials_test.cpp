// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/fixture.h"
#include "tests/bpf/flood.h"

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>

namespace bulkhead::test {
namespace {

using namespace std::chrono_literals;

std::uint64_t flood_packets(std::uint64_t otherwise = 300'000)
{
    const char* given = std::getenv("BULKHEAD_FLOOD");
    return given == nullptr ? otherwise : std::strtoull(given, nullptr, 10);
}

std::size_t resident_kib()
{
    std::ifstream statm("/proc/self/statm");
    std::size_t total = 0, resident = 0;
    statm >> total >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

class Denials : public BpfTest {
protected:
    // What came since the last call: told at once, and counted.
    void collect(std::chrono::milliseconds timeout = 0ms)
    {
        while (datapath_->consume([this](const bh_event& event) { keep(event); }, [] {}, timeout).value() > 0) {
        }
        const auto taken = datapath_->take_denials([this](std::span<const bh_denial> denials) {
            counted.insert(counted.end(), denials.begin(), denials.end());
        });
        ASSERT_TRUE(taken) << taken.error().message;
    }
    void keep(const bh_event& event)
    {
        if (event.type == BH_EVENT_DENY)
            at_once.push_back(event);
    }
    [[nodiscard]] std::uint64_t told() const
    {
        std::uint64_t sum = at_once.size();
        for (const auto& denial : counted)
            sum += denial.count;
        return sum;
    }
    [[nodiscard]] std::uint64_t denied() const
    {
        std::uint64_t sum = 0;
        for (const auto& [name, value] : datapath_->counters())
            if (name.starts_with("denied_") || name.starts_with("would_deny_"))
                sum += value;
        return sum;
    }
    [[nodiscard]] std::uint64_t told_of(const char* address, bool by_ring) const
    {
        const auto remote = abi_address(address);
        const auto from = [&remote](const bh_event& event) {
            return std::memcmp(&event.remote, &remote, sizeof(remote)) == 0;
        };
        std::uint64_t sum = 0;
        if (by_ring)
            return static_cast<std::uint64_t>(std::count_if(at_once.begin(), at_once.end(), from));
        for (const auto& denial : counted)
            if (from(denial.first) && denial.first.several == BH_SEVERAL_NONE)
                sum += denial.count;
        return sum;
    }
    [[nodiscard]] std::uint64_t told_as(bh_several several) const
    {
        std::uint64_t sum = 0;
        for (const auto& denial : counted)
            if (denial.first.several == several)
                sum += denial.count;
        return sum;
    }
    void attempts(int count, std::uint16_t port)
    {
        guarded([&] {
            for (int i = 0; i < count; ++i)
                ASSERT_EQ(udp_connect_error({"10.77.0.2", port}), EPERM);
        });
    }
    // Below the root cgroup only ports with a listener are judged.
    void listen_on(std::uint16_t first, std::uint16_t count)
    {
        const rlimit files{4096, 4096};
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
        guarded([&] {
            for (std::uint16_t i = 0; i < count; ++i)
                listeners_.push_back(listening({"10.77.0.1", static_cast<std::uint16_t>(first + i)}));
        });
    }
    // Reads while the flood goes on, as an agent does, but more often; `in_the_middle` is done once.
    void endure(Flood::Way way, const FloodPlan& plan, const std::function<void()>& in_the_middle)
    {
        const auto resident = resident_kib();
        const auto begun = std::chrono::steady_clock::now();
        Flood flood((way == Flood::Way::received ? world_->wire.guarded : world_->wire.peer).fd(), way, plan);
        bool done = false;
        while (!flood.over()) {
            std::this_thread::sleep_for(100ms);
            collect();
            if (!done && flood.sent() > plan.packets / 3) {
                done = true;
                in_the_middle();
            }
        }
        flood.join();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
        ASSERT_TRUE(done);
        ASSERT_EQ(flood.sent(), plan.packets);
        std::this_thread::sleep_for(100ms); // what the other CPU has in its backlog
        collect(50ms);
        collect(50ms);
        std::cout << "  " << flood.sent() << " SYNs in " << took.count() << " s, " << denied()
                  << " judged and refused, " << at_once.size() << " told at once, " << counted.size()
                  << " counts, resident " << (resident_kib() - resident) << " KiB more\n";
        EXPECT_LT(resident_kib(), resident + 64 * 1024);
    }
    std::vector<bh_event> at_once;
    std::vector<bh_denial> counted;
    std::vector<UniqueFd> listeners_;
};

TEST_F(Denials, TheFirstIsToldAtOnceAndTheOthersAreCounted)
{
    realise(TestPolicy().default_action(outbound, refuse));
    attempts(100, 53);
    attempts(1, 54);
    collect(50ms);
    ASSERT_EQ(at_once.size(), 2U);
    EXPECT_EQ(at_once[0].remote_port, 53);
    EXPECT_EQ(at_once[1].remote_port, 54);
    ASSERT_EQ(counted.size(), 1U);
    EXPECT_EQ(counted[0].count, 99U);
    EXPECT_EQ(counted[0].first.remote_port, 53);
    EXPECT_EQ(counted[0].first.several, BH_SEVERAL_NONE);
    EXPECT_EQ(counted[0].first.subject.pid, static_cast<__u32>(::getpid()));
    EXPECT_GE(counted[0].last_ns, counted[0].since_ns);
    EXPECT_GT(counted[0].since_ns, at_once[0].time_ns);
    EXPECT_EQ(denied(), 101U);
    EXPECT_EQ(told(), denied());
}

TEST_F(Denials, WhatGoesOnIsCountedAndNotToldAtOnceAgain)
{
    realise(TestPolicy().default_action(outbound, refuse));
    for (int second = 0; second < 4; ++second) {
        attempts(10, 53);
        collect(50ms);
    }
    EXPECT_EQ(at_once.size(), 1U);
    EXPECT_THAT(counted, testing::SizeIs(4));
    EXPECT_EQ(told(), 40U);
}

TEST_F(Denials, WhatHasStoppedIsForgottenAndToldAtOnceAgain)
{
    realise(TestPolicy().default_action(outbound, refuse));
    attempts(1, 53);
    for (int second = 0; second < 3; ++second)
        collect(50ms);
    for (const auto& use : datapath_->map_use()) {
        if (use.name.starts_with("denials")) {
            EXPECT_EQ(use.entries, 0U) << use.name;
        }
    }
    attempts(1, 53);
    collect(50ms);
    EXPECT_EQ(at_once.size(), 2U);
    EXPECT_THAT(counted, testing::IsEmpty());
}

TEST_F(Denials, KindsAreToldApart)
{
    realise(TestPolicy().deny(outbound, "10.77.0.0/24", "tcp/80").deny(outbound, "10.77.0.2", "udp/80"));
    guarded([&] {
        EXPECT_EQ(tcp_error({"10.77.0.2", 80}), EPERM);
        EXPECT_EQ(udp_connect_error({"10.77.0.2", 80}), EPERM);
        EXPECT_EQ(tcp_error({"10.77.0.3", 80}), EPERM);
    });
    realise(TestPolicy().default_action(outbound, refuse)); // another generation, another reason
    guarded([&] { EXPECT_EQ(tcp_error({"10.77.0.3", 80}), EPERM); });
    const Cgroup below(world_->enforced.path() + "/below"); // the same process from another cgroup
    run_in(world_->wire.guarded, below, [&] { EXPECT_EQ(tcp_error({"10.77.0.3", 80}), EPERM); });
    collect(50ms);
    EXPECT_EQ(at_once.size(), 5U);
    EXPECT_THAT(counted, testing::IsEmpty());
}

TEST_F(Denials, OtherSourcePortsAreCountedApartFromTheFirst)
{
    realise(TestPolicy().default_action(inbound, refuse));
    listen_on(80, 1);
    peer([&] {
        for (int i = 0; i < 2; ++i)
            for (const std::uint16_t port : std::initializer_list<std::uint16_t>{4321, 4322, 4323})
                EXPECT_EQ(connect_error(bound(SOCK_STREAM, {"10.77.0.2", port}), {"10.77.0.1", 80}), ECONNREFUSED);
    });
    collect(50ms);
    ASSERT_EQ(at_once.size(), 1U);
    EXPECT_EQ(at_once[0].remote_port, 4321);
    EXPECT_EQ(at_once[0].netns, world_->wire.guarded.inode());
    ASSERT_EQ(counted.size(), 1U);
    EXPECT_EQ(counted[0].count, 5U);
    EXPECT_EQ(counted[0].elsewhere, 4U) << "one attempt more came from port 4321";
}

TEST_F(Denials, CountsOutliveTheAgent)
{
    realise(TestPolicy().default_action(outbound, refuse));
    attempts(10, 53);
    datapath_.reset();
    attempts(10, 53);
    auto second = open(options());
    ASSERT_TRUE(second) << second.error().message;
    datapath_ = std::move(*second);
    attempts(10, 53);
    collect(50ms);
    EXPECT_EQ(at_once.size(), 1U) << "the ring outlives the agent, too";
    EXPECT_EQ(told(), 30U);
    collect(50ms);
    EXPECT_EQ(told(), 30U);
}

TEST_F(Denials, ACountThatCouldNotBePassedOnIsToldAgain)
{
    realise(TestPolicy().default_action(outbound, refuse));
    attempts(5, 53);
    struct Killed {};
    EXPECT_THROW((void)datapath_->take_denials([](std::span<const bh_denial>) { throw Killed(); }), Killed);
    attempts(5, 53);
    auto second = open(options());
    ASSERT_TRUE(second);
    datapath_ = std::move(*second);
    collect(50ms);
    EXPECT_EQ(told(), 10U);
    EXPECT_EQ(at_once.size(), 1U);
}

TEST_F(Denials, WhatFindsNoRoomInTheRingIsCounted)
{
    realise(TestPolicy().default_action(outbound, refuse));
    guarded([&] {
        for (int second = 0; second < 14; ++second) { // the ring holds 11,000, a pool gives 1,024 places a second
            for (int i = 0; i < 1500; ++i)
                ASSERT_EQ(udp_connect_error({"10.77." + std::to_string(1 + i % 250) + "." + std::to_string(1 + i / 250),
                                             static_cast<std::uint16_t>(1000 + second)}),
                          EPERM);
            std::this_thread::sleep_for(300ms);
        }
    });
    collect(50ms);
    EXPECT_EQ(denied(), 14U * 1500);
    EXPECT_EQ(told(), denied());
}

TEST_F(Denials, AFloodFromOnePeerHidesNoOther)
{
    realise(TestPolicy().default_action(inbound, refuse));
    listen_on(10000, 1000);
    FloodPlan plan;
    plan.ports = 1000;
    plan.packets = flood_packets();
    endure(Flood::Way::sent, plan, [&] {
        peer([&] {
            EXPECT_EQ(connect_error(bound(SOCK_STREAM, {"10.77.0.3", 0}), {"10.77.0.1", 10500}), ECONNREFUSED);
        });
    });
    EXPECT_EQ(told(), denied());
    EXPECT_GT(told_as(BH_SEVERAL_PORTS), 0U);
    EXPECT_EQ(told_as(BH_SEVERAL_PEERS), 0U);
    EXPECT_EQ(told_of("10.77.0.3", true), 1U);
    EXPECT_EQ(datapath_->counters().at("deny_lost"), 0U);
}

TEST_F(Denials, AFloodOfForgedSourcesHidesNoPeerThatThePolicyKnows)
{
    realise(TestPolicy().default_action(inbound, refuse).deny(inbound, "10.77.0.3", "tcp/1"));
    ip(world_->wire.guarded, "route add 10.78.0.0/16 via 10.77.0.2"); // the resets go somewhere
    listen_on(10000, 200);
    FloodPlan plan;
    plan.from = "10.78.0.0";
    plan.sources = 65536;
    plan.ports = 200;
    plan.packets = flood_packets();
    endure(Flood::Way::sent, plan, [&] {
        peer([&] {
            EXPECT_EQ(connect_error(bound(SOCK_STREAM, {"10.77.0.3", 0}), {"10.77.0.1", 10100}), ECONNREFUSED);
        });
    });
    EXPECT_EQ(told(), denied());
    EXPECT_GT(told_as(BH_SEVERAL_PEERS), 0U);
    EXPECT_EQ(told_of("10.77.0.3", true), 1U);
}

// No sender costs the host anything here, so that it gets what a fast attacker on a fast wire would send it.
TEST_F(Denials, AFloodAtTheSpeedOfTheHostIsCountedToTheLast)
{
    realise(TestPolicy().default_action(inbound, refuse));
    listen_on(10000, 1000);
    FloodPlan plan;
    plan.ports = 1000;
    plan.threads = std::max(1U, std::thread::hardware_concurrency());
    plan.packets = flood_packets(1'000'000) / plan.threads * plan.threads;
    endure(Flood::Way::received, plan, [&] {
        peer([&] {
            EXPECT_EQ(connect_error(bound(SOCK_STREAM, {"10.77.0.3", 0}), {"10.77.0.1", 10500}), ECONNREFUSED);
        });
    });
    EXPECT_EQ(told(), denied());
    EXPECT_EQ(denied(), plan.packets + 1) << "each SYN was judged";
    EXPECT_EQ(told_of("10.77.0.3", true), 1U);
    EXPECT_EQ(datapath_->counters().at("deny_lost"), 0U);
}

} // namespace
} // namespace bulkhead::test
