// SPDX-License-Identifier: Apache-2.0
// From the programs of a version with other maps to ours: no gap, also when it is cut off at any moment.
#include "tests/bpf/container.h"
#include "tests/bpf/counting_processes.h"
#include "tests/bpf/fixture.h"
#include "tests/bpf/stepped_process.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <memory>

namespace bulkhead::test {
namespace {

using namespace std::chrono_literals;

// A process that knocks on a denied port until it is told to stop.
class Knocker {
public:
    Knocker(const Netns& netns, const Cgroup& cgroup, Address to, int refusal)
    {
        process_.start(netns, cgroup, [&](Counts& counts) {
            const int error = tcp_error(to);
            ++counts.tries;
            if (error != refusal)
                counts.wrong = error == 0 ? -1 : error;
            ::usleep(500);
        });
    }
    // Until it has knocked again some times since now.
    void knock_on() const
    {
        const int before = process_.counts().tries;
        for (int i = 0; i < 3000 && process_.counts().tries < before + 5; ++i)
            ::usleep(10'000);
    }
    // 0: every answer was a refusal.
    int stop()
    {
        process_.stop();
        return process_.counts().tries == 0 ? -2 : process_.counts().wrong.load();
    }

private:
    struct Counts {
        std::atomic<int> tries, wrong;
    };
    CountingProcesses<Counts> process_;
};

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

class Upgrade : public BpfTest {
protected:
    [[nodiscard]] static TestPolicy policy()
    {
        return TestPolicy()
            .default_action(outbound, refuse)
            .default_action(inbound, refuse)
            .allow(outbound, "10.77.0.2", "tcp/80")
            .allow(outbound, "10.77.0.2", "udp/53");
    }
    [[nodiscard]] std::string pin(const std::string& name) const { return options().pin_dir + "/test/" + name; }
    void other_size() const
    {
        if (!std::filesystem::exists(pin("maps/bh_listeners")))
            return; // cut off between two folders
        ASSERT_EQ(::unlink(pin("maps/bh_listeners").c_str()), 0);
        const UniqueFd odd(bpf_map_create(BPF_MAP_TYPE_HASH, "bh_listeners", sizeof(bh_listener_key),
                                          sizeof(bh_listener), 77, nullptr));
        ASSERT_EQ(bpf_obj_pin(odd.get(), pin("maps/bh_listeners").c_str()), 0);
    }
    void other_abi() const
    {
        const UniqueFd control(bpf_obj_get(pin("maps/bh_control").c_str()));
        const __u32 zero = 0;
        bh_control word{};
        ASSERT_EQ(bpf_map_lookup_elem(control.get(), &zero, &word), 0);
        word.abi_version = 1;
        ASSERT_EQ(bpf_map_update_elem(control.get(), &zero, &word, BPF_ANY), 0);
    }
    // As an agent does: in the namespace that it guards, whose sockets are walked.
    void enforce(const TestPolicy& next)
    {
        outsider([&] { realise(next); });
    }
    void reopen()
    {
        auto opened = open(options());
        ASSERT_TRUE(opened) << opened.error().message;
        datapath_ = std::move(*opened);
    }
    [[nodiscard]] int guarded_error(const Address& to) const
    {
        int error = -1;
        guarded([&] { error = tcp_error(to); });
        return error;
    }
    void converse(const UniqueFd& client, const UniqueFd& server) const
    {
        ASSERT_EQ(send_error(client, "still here"), 0);
        EXPECT_EQ(receive(server, 3s).text, "still here");
    }
    [[nodiscard]] std::unique_ptr<Knocker> knock_outbound() const
    {
        return std::make_unique<Knocker>(world_->wire.guarded, world_->enforced, Address("10.77.0.3", 80), EPERM);
    }
    [[nodiscard]] std::unique_ptr<Knocker> knock_inbound() const
    {
        return std::make_unique<Knocker>(world_->wire.peer, world_->elsewhere, Address("10.77.0.1", 8080),
                                         ECONNREFUSED);
    }
    const Address allowed{"10.77.0.2", 80}, denied{"10.77.0.3", 80};
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
    EXPECT_THAT(datapath_->pending_takeover().value_or(""), testing::HasSubstr("bh_listeners"));
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
    std::uint64_t told = 0;
    for (const auto& event : drain())
        told += event.type == BH_EVENT_DENY;
    ASSERT_TRUE(datapath_->take_denials([&](std::span<const bh_denial> denials) {
        for (const auto& denial : denials)
            told += denial.count;
    }));
    EXPECT_EQ(told, 7U);
}

// What is read while tables are copied must be marked as read where it was entered (bpf/hooks/recvmsg.h).
TEST_F(Upgrade, ClientsThatComeInItsCourseAreAnswered)
{
    const auto served = policy().allow(inbound, "10.77.0.2", "udp/54");
    enforce(served);
    std::vector<UniqueFd> open_sockets; // so that it takes a while to walk them
    outsider([&] {
        for (int i = 0; i < 15000; ++i)
            open_sockets.push_back(bound(SOCK_DGRAM, {"127.0.0.1", 0}));
    });
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

// In a namespace of its own, with a server that nobody may reach.
class UpgradeWithContainer : public Upgrade {
protected:
    void SetUp() override
    {
        Upgrade::SetUp();
        if (!datapath_)
            return;
        container_ = std::make_unique<Container>(world_->enforced);
        container_->join(world_->wire.peer);
        (void)datapath_->follow_namespaces();
        run_in(container_->netns(), world_->enforced, [this] { server_ = listening({"0.0.0.0", 8080}); });
    }
    void TearDown() override
    {
        server_.reset();
        container_.reset();
        Upgrade::TearDown();
    }
    [[nodiscard]] std::unique_ptr<Knocker> knock_at_container() const
    {
        return std::make_unique<Knocker>(world_->wire.peer, world_->elsewhere, Address("10.78.0.1", 8080),
                                         ECONNREFUSED);
    }
    [[nodiscard]] int container_error() const
    {
        int error = -1;
        peer([&] { error = tcp_error({"10.78.0.1", 8080}); });
        return error;
    }
    // By another process, which ends before it changes one more pin or link. How many it has changed.
    int upgrade(int changes)
    {
        const auto settings = options(); // of this process; another one's are other places
        SteppedProcess successor([&](const std::function<void()>& begin_counting) {
            auto opened = open(settings);
            if (!opened || !(*opened)->pending_takeover())
                ::_exit(1);
            begin_counting();
            outsider([&] { (void)test::realise(**opened, policy()); });
        });
        return successor.run(changes);
    }
    void finish() // and make it another version's again
    {
        enforce(policy());
        ASSERT_EQ(datapath_->pending_takeover(), std::nullopt);
        expect_nothing_left_over();
        datapath_.reset();
        other_size();
    }
    void expect_nothing_left_over() const
    {
        for (const auto& folder : std::filesystem::directory_iterator(options().pin_dir + "/test"))
            EXPECT_THAT(folder.path().filename().string(), testing::AnyOf("maps", "links"));
    }
    std::unique_ptr<Container> container_;
    UniqueFd server_;
};

TEST_F(UpgradeWithContainer, TheDoorsOfNamespacesAreHandedOver)
{
    enforce(policy());
    ASSERT_EQ(container_error(), ECONNREFUSED);
    datapath_.reset();
    other_abi();
    const auto knock = knock_at_container();
    reopen();
    EXPECT_THAT(datapath_->follow_namespaces().came, testing::IsEmpty());
    knock->knock_on();
    enforce(policy());
    EXPECT_THAT(datapath_->follow_namespaces().came, testing::IsEmpty()) << "it always had its door";
    knock->knock_on();
    EXPECT_EQ(knock->stop(), 0);
    EXPECT_THAT(datapath_->look_for_tampering(), testing::IsEmpty());
    expect_nothing_left_over();
    datapath_.reset();
    EXPECT_EQ(container_error(), ECONNREFUSED) << "by pins of this version alone";
    reopen();
    enforce(TestPolicy().default_action(inbound, permit));
    EXPECT_EQ(container_error(), 0) << "the old programs are gone";
}

// The doors of the new version act, and nothing else of it does yet.
TEST_F(UpgradeWithContainer, WhatStaysOnTheHostIsNoPeersInItsCourse)
{
    UniqueFd ours;
    guarded([&] { ours = listening({"10.77.0.1", 8081}); });
    ip(container_->netns(), "link set lo up");
    const auto own_error = [&] {
        int error = -1;
        run_in(container_->netns(), world_->enforced, [&] { error = tcp_error({"10.78.0.1", 8080}); });
        return error;
    };
    enforce(policy());
    ASSERT_EQ(guarded_error({"10.77.0.1", 8081}), 0);
    ASSERT_EQ(own_error(), 0);
    finish();
    constexpr int doors = 11;
    ASSERT_EQ(upgrade(doors), doors);
    EXPECT_EQ(guarded_error({"10.77.0.1", 8081}), 0);
    EXPECT_EQ(own_error(), 0);
    reopen();
    finish();
}

TEST_F(UpgradeWithContainer, OneThatEndsMeanwhileHoldsNothingUp)
{
    enforce(policy());
    const auto inode = container_->inode();
    datapath_.reset();
    other_abi();
    reopen();
    server_.reset();
    container_->end();
    const std::string pin = options().pin_dir + "/test/links/sk_lookup_" + std::to_string(inode);
    const auto acts = [&] {
        const UniqueFd link(bpf_obj_get(pin.c_str()));
        bpf_link_info info{};
        __u32 size = sizeof(info);
        return link && bpf_obj_get_info_by_fd(link.get(), &info, &size) == 0 && info.netns.netns_ino != 0;
    };
    for (int i = 0; i < 100 && acts(); ++i) // the kernel takes its time
        std::this_thread::sleep_for(50ms);
    ASSERT_FALSE(acts());
    enforce(policy());
    expect_nothing_left_over();
}

// Killed before one change of pins and links after the other.
TEST_F(UpgradeWithContainer, CutOffAtAnyMomentItIsFinishedByTheNextStart)
{
    enforce(policy());
    UniqueFd ours;
    guarded([&] { ours = listening({"10.77.0.1", 8080}); });
    const auto out = knock_outbound(), in = knock_inbound(), at_container = knock_at_container();
    finish();
    const int all = upgrade(1 << 20);
    ASSERT_GT(all, 50) << "ten hooks, a gate, and the maps";
    int again = 0, finished = 0; // what the next start found
    reopen();
    finish();
    for (int changes = 0; changes <= all; changes += all / 6) {
        ASSERT_EQ(upgrade(changes), changes);
        for (const auto* knock : {&out, &in, &at_container})
            (*knock)->knock_on();
        reopen();
        ++(datapath_->pending_takeover() ? again : finished);
        for (const auto* knock : {&out, &in, &at_container})
            (*knock)->knock_on();
        EXPECT_EQ(guarded_error(allowed), ECONNREFUSED) << "it is allowed, and nobody listens";
        finish();
    }
    EXPECT_GT(again, 0);
    EXPECT_GT(finished, 0);
    EXPECT_EQ(out->stop(), 0);
    EXPECT_EQ(in->stop(), 0);
    EXPECT_EQ(at_container->stop(), 0);
}

} // namespace
} // namespace bulkhead::test
