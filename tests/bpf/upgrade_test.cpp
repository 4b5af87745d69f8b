// SPDX-License-Identifier: Apache-2.0
// From the programs of a version with other maps to ours: no gap.
#include "agent/datapath/map_entries.h"
#include "common/core/clock.h"
#include "tests/bpf/upgrade.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>

namespace bulkhead::test {
namespace {

// A process that serves by UDP, and one that asks it, each time from another port, until they are told to stop.
class Service {
public:
    Service(const Netns& netns, const Cgroup& cgroup, const Netns& clients, const Cgroup& of_clients, Address at)
    {
        run_in(netns, cgroup, [&] { server_ = bound(SOCK_DGRAM, at); });
        processes_.start(netns, cgroup, [&](Counts& counts) {
            if (const auto question = receive(server_, 10ms); !question.text.empty())
                counts.refused += reply_error(server_, question, "answer") == EPERM;
        });
        processes_.start(clients, of_clients, [&](Counts& counts) {
            const UniqueFd client = make_socket(at.family(), SOCK_DGRAM);
            if (send_to_error(client, at, "question") == 0)
                counts.answered += receive(client, 10ms).text == "answer";
        });
    }
    void serve_on() const
    {
        const int before = processes_.counts().answered;
        for (int i = 0; i < 300 && processes_.counts().answered < before + 20; ++i)
            ::usleep(10'000);
        EXPECT_GE(processes_.counts().answered, before + 20);
    }
    // How many answers were refused.
    [[nodiscard]] int refused() const { return processes_.counts().refused; }
    void stop() { processes_.stop(); }

private:
    struct Counts {
        std::atomic<int> answered, refused;
    };
    UniqueFd server_;
    CountingProcesses<Counts> processes_;
};

TEST_F(Upgrade, OldProgramsGoOnUntilThePolicyIsInForceBesideThem)
{
    enforce(policy());
    const auto generation = datapath_->control().generation;
    UniqueFd theirs, ours, client, server;
    peer([&] { theirs = listening(allowed); });
    guarded([&] {
        ours = listening({"10.77.0.1", 8080});
        client = make_socket(AF_INET, SOCK_STREAM);
        ASSERT_EQ(connect_error(client, allowed), 0);
    });
    server = accepted(theirs);
    datapath_.reset();
    other_size();
    const auto out = knock_outbound(), in = knock_inbound();

    reopen();
    EXPECT_THAT(datapath_->pending_takeover().value_or(""), testing::HasSubstr("bh_gate"));
    EXPECT_EQ(datapath_->control().active_slot, BH_SLOT_NONE);
    EXPECT_THAT(datapath_->look_for_tampering(), testing::IsEmpty());
    out->knock_on();
    in->knock_on();
    enforce(policy());
    EXPECT_EQ(datapath_->pending_takeover(), std::nullopt);
    EXPECT_GT(datapath_->control().generation, generation);
    out->knock_on();
    in->knock_on();
    EXPECT_EQ(out->stop(), 0);
    EXPECT_EQ(in->stop(), 0);
    converse(client, server);
    EXPECT_EQ(guarded_error(allowed), 0);
    EXPECT_THAT(datapath_->look_for_tampering(), testing::IsEmpty());

    reopen(); // the pins are those of this version now
    EXPECT_EQ(datapath_->pending_takeover(), std::nullopt);
    EXPECT_EQ(guarded_error(denied), EPERM);
    enforce(TestPolicy().default_action(outbound, permit));
    EXPECT_EQ(guarded_error(denied), ECONNREFUSED) << "the old programs are gone";
}

// A version had one table for all exchanges, from which the least recently used went.
TEST_F(Upgrade, ExchangesComeOutOfOneTable)
{
    enforce(policy());
    datapath_.reset();
    other_size();
    const UniqueFd theirs(bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "bh_exchanges", sizeof(bh_exchange_key),
                                         sizeof(bh_exchange), 65536, nullptr));
    bh_exchange exchange{};
    exchange.opened_ns = exchange.last_ns = static_cast<__u64>(system_clock().monotonic().count());
    for (const std::uint8_t protocol : {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP})
        for (std::uint16_t port = 1; port <= 100; ++port) {
            const bh_exchange_key key{abi_address("10.78.0.2"), abi_address("10.77.0.2"), port, 53, protocol, {}};
            ASSERT_EQ(bpf_map_update_elem(theirs.get(), &key, &exchange, BPF_ANY), 0);
        }
    ASSERT_EQ(::unlink(pin("maps/bh_exchanges").c_str()), 0);
    ASSERT_EQ(bpf_obj_pin(theirs.get(), pin("maps/bh_exchanges").c_str()), 0);
    reopen();
    enforce(policy());

    const auto entries = [&](const char* name) {
        const UniqueFd map(bpf_obj_get(pin(std::string("maps/") + name).c_str()));
        std::vector<bh_exchange_key> keys;
        agent::for_each_entry<bh_exchange_key, bh_exchange>(map.get(),
                                                            [&](const auto& key, const auto&) { keys.push_back(key); });
        return keys;
    };
    const auto others = entries("bh_exchanges");
    EXPECT_EQ(others.size(), 200U);
    EXPECT_EQ(entries("bh_spare_exchanges").size(), 100U);
    const UniqueFd places(bpf_obj_get(pin("maps/bh_exchange_places").c_str()));
    std::size_t placed = 0;
    for (__u32 at = 0; at < BH_EXCHANGES; ++at) {
        bh_exchange_key key{};
        ASSERT_EQ(bpf_map_lookup_elem(places.get(), &at, &key), 0);
        placed += std::any_of(others.begin(), others.end(),
                              [&](const auto& other) { return std::memcmp(&other, &key, sizeof(key)) == 0; });
    }
    EXPECT_EQ(placed, others.size());
}

TEST_F(Upgrade, WhenPolicyCameInForceIsHandedOver)
{
    const auto since = [&] {
        const UniqueFd map(bpf_obj_get(pin("maps/bh_in_force_since").c_str()));
        const __u32 zero = 0;
        __u64 noted = 0;
        EXPECT_EQ(bpf_map_lookup_elem(map.get(), &zero, &noted), 0);
        return noted;
    };
    enforce(policy());
    const auto noted = since();
    EXPECT_NE(noted, 0U);
    datapath_.reset();
    other_size();
    reopen();
    enforce(policy());
    EXPECT_EQ(since(), noted);
}

TEST_F(Upgrade, WithoutAPolicyTheOldOneStays)
{
    enforce(policy());
    datapath_.reset();
    other_abi();
    for (int i = 0; i < 2; ++i) {
        reopen();
        EXPECT_THAT(datapath_->pending_takeover().value_or(""), testing::HasSubstr("map layout 1"));
        EXPECT_EQ(guarded_error(denied), EPERM);
        datapath_.reset();
        EXPECT_EQ(guarded_error(denied), EPERM);
    }
    EXPECT_TRUE(agent::detach_datapath(options()).value());
    EXPECT_EQ(guarded_error(denied), ECONNREFUSED);
}

TEST_F(Upgrade, WhereNothingIsInForceItIsDoneAtOnce)
{
    datapath_.reset();
    other_size();
    reopen();
    EXPECT_EQ(datapath_->pending_takeover(), std::nullopt);
    enforce(policy());
    EXPECT_EQ(guarded_error(denied), EPERM);
}

TEST_F(Upgrade, LinksThatThisVersionDoesNotHaveGo)
{
    enforce(policy());
    const bpf_insn refuse_all[] = {{0xb7, 0, 0, 0, 0}, {0x95, 0, 0, 0, 0}}; // r0 = 0; exit
    LIBBPF_OPTS(bpf_prog_load_opts, load, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
    const UniqueFd program(
        bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "of_another", "GPL", refuse_all, std::size(refuse_all), &load));
    const UniqueFd cgroup(::open(world_->enforced.path().c_str(), O_RDONLY | O_DIRECTORY));
    UniqueFd link(bpf_link_create(program.get(), cgroup.get(), BPF_CGROUP_INET4_CONNECT, nullptr));
    ASSERT_TRUE(link);
    ASSERT_EQ(bpf_obj_pin(link.get(), pin("links/of_another").c_str()), 0);
    link.reset();
    EXPECT_EQ(guarded_error(allowed), EPERM);
    datapath_.reset();
    other_abi();
    reopen();
    enforce(policy());
    EXPECT_EQ(guarded_error(allowed), ECONNREFUSED);
    EXPECT_FALSE(std::filesystem::exists(pin("links/of_another")));
}

TEST_F(Upgrade, RepliesAndCountsAreHandedOver)
{
    enforce(policy());
    UniqueFd server, client;
    peer([&] { server = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
    });
    const auto question = receive(server, 3s);
    ASSERT_EQ(question.text, "x");
    datapath_.reset();
    for (int i = 0; i < 7; ++i)
        EXPECT_EQ(guarded_error(denied), EPERM);
    other_size();
    reopen();
    enforce(policy());
    ASSERT_EQ(reply_error(server, question, "answer"), 0);
    EXPECT_EQ(receive(client, 3s).text, "answer");
    EXPECT_EQ(denials_told(), 7U);
    expect_nothing_left_over();
}

TEST_F(Upgrade, WhatAKilledAgentHadNotToldTheNextOneTells)
{
    enforce(policy());
    datapath_.reset();
    for (int i = 0; i < 7; ++i)
        EXPECT_EQ(guarded_error(denied), EPERM);
    other_size();
    reopen();
    enforce(policy());
    datapath_.reset(); // before it has told anything
    EXPECT_EQ(guarded_error(denied), EPERM);
    reopen();
    EXPECT_EQ(datapath_->pending_takeover(), std::nullopt);
    EXPECT_EQ(denials_told(), 8U);
    expect_nothing_left_over();
}

// What is read while tables are copied must be marked as read where it was entered (bpf/hooks/recvmsg.h).
TEST_F(Upgrade, ClientsThatComeInItsCourseAreAnswered)
{
    const auto served = policy().allow(inbound, "10.77.0.2", "udp/54");
    enforce(served);
    const auto open_sockets = many_sockets();
    Service service(world_->wire.guarded, world_->enforced, world_->wire.peer, world_->elsewhere, {"10.77.0.1", 54});
    service.serve_on();
    EXPECT_EQ(service.refused(), 0);
    datapath_.reset();
    other_size();
    reopen();
    service.serve_on();
    enforce(served);
    service.serve_on();
    service.stop();
    EXPECT_LE(service.refused(), 2) << "but what was read just before (docs/adr/0014-answers-to-what-was-read.md)";
}

// How many listeners that were just born let somebody in while `work` was done.
class Newborn {
public:
    Newborn(const Wire& wire, const Cgroup& enforced, const Cgroup& elsewhere, const std::function<void()>& work)
    {
        const auto newest = [](const Counts& counts) {
            return Address("10.77.0.1", static_cast<std::uint16_t>(20000 + counts.born % 10000));
        };
        processes_.start(wire.guarded, enforced, [&](Counts& counts) {
            ++counts.born;
            const UniqueFd one = listening(newest(counts));
            ::usleep(200);
        });
        processes_.start(wire.peer, elsewhere, [&, last = -1](Counts& counts) mutable {
            ++counts.tries;
            const int born = counts.born;
            const UniqueFd client = make_socket(AF_INET, SOCK_STREAM);
            const timeval soon{0, 20'000}; // a segment that is lost is sent again after a second
            (void)::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
            if (connect_error(client, newest(counts)) == 0 && std::exchange(last, born) != born)
                ++counts.let_in;
        });
        work();
        processes_.stop();
    }
    [[nodiscard]] int tries() const { return processes_.counts().tries; }
    [[nodiscard]] int let_in() const { return processes_.counts().let_in; }

private:
    struct Counts {
        std::atomic<int> born, tries, let_in;
    };
    CountingProcesses<Counts> processes_;
};

// The table that the other version decides by is kept by nobody for as long as it takes to put ours in its place. On a
// busy machine that is as long as the agent waits for a CPU between two hooks: not each time.
TEST_F(Upgrade, ListenersThatAreBornInItsCourseAreJudged)
{
    enforce(policy());
    const auto open_sockets = many_sockets();
    int fewest = std::numeric_limits<int>::max();
    for (int round = 0; round < 5 && fewest > 2; ++round) {
        const Newborn newborn(world_->wire, world_->enforced, world_->elsewhere, [&] {
            datapath_.reset();
            other_size();
            reopen();
            enforce(policy());
        });
        EXPECT_GT(newborn.tries(), 100);
        fewest = std::min(fewest, newborn.let_in());
    }
    EXPECT_LE(fewest, 2) << "but those that were born between two hooks";
}

// Conversations are handed over, and with them the number of the generation that let them pass. A trial that was given
// up had a number, too.
TEST_F(Upgrade, WhatATrialLetPassTheNextPolicyDoesNotLetPassByItsNumber)
{
    enforce(policy());
    UniqueFd server, client;
    guarded([&] { server = bound(SOCK_DGRAM, {"10.77.0.1", 54}); });
    peer([&] { client = bound(SOCK_DGRAM, {"10.77.0.2", 0}); });
    const auto open_54 = policy().allow(inbound, "10.77.0.2", "udp/54");
    const auto active = open_54.plane(policy::Plane::active), shadow = open_54.plane(policy::Plane::shadow);
    const auto trial = datapath_->realise({&active, &shadow, {}, 0, system_clock().monotonic() + 60s});
    ASSERT_TRUE(trial) << trial.error().message;
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(send_to_error(client, {"10.77.0.1", 54}, "in the trial"), 0);
        ASSERT_EQ(receive(server).text, "in the trial");
    }
    ASSERT_TRUE(datapath_->fall_back());
    ASSERT_EQ(send_to_error(client, {"10.77.0.1", 54}), 0);
    ASSERT_EQ(receive(server).text, "");
    datapath_.reset();
    other_size();
    reopen();
    enforce(policy());
    EXPECT_GT(datapath_->control().generation, *trial) << "no number twice";
    EXPECT_EQ(datapath_->udp_flows().value().size(), 1U) << "handed over";
    ASSERT_EQ(send_to_error(client, {"10.77.0.1", 54}, "after it"), 0);
    EXPECT_EQ(receive(server).text, "");
}

// What namespaces are reached past the guard is known by nobody yet.
TEST_F(Upgrade, SocketsAreAskedAboutFromOneVersionToTheNext)
{
    ingress_.always = true;
    datapath_.reset();
    reopen();
    enforce(policy());
    datapath_.reset();
    ingress_.always = false;
    other_size();
    reopen();
    ASSERT_NE(datapath_->pending_takeover(), std::nullopt);
    enforce(policy());
    EXPECT_TRUE(datapath_->judges_at_sockets());
    EXPECT_TRUE(std::filesystem::exists(pin("links/ingress")));
    EXPECT_THAT(datapath_->look_for_tampering(), testing::IsEmpty());
}

// Whoever cut the host off may have been unable to save that.
TEST_F(Upgrade, ItsQuarantineIsSeen)
{
    const auto active = policy().plane(policy::Plane::active), shadow = policy().plane(policy::Plane::shadow);
    ASSERT_TRUE(datapath_->realise({&active, &shadow, {}, BH_CONTROL_QUARANTINE, std::nullopt}));
    EXPECT_TRUE(datapath_->in_quarantine());
    datapath_.reset();
    other_size();
    reopen();
    ASSERT_NE(datapath_->pending_takeover(), std::nullopt);
    EXPECT_TRUE(datapath_->in_quarantine());
    enforce(policy());
    EXPECT_FALSE(datapath_->in_quarantine());
}

} // namespace
} // namespace bulkhead::test
