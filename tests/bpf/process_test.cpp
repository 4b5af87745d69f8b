// SPDX-License-Identifier: Apache-2.0
// Rules that look at the process: whose user, cgroup and executable the kernel reads itself.
#include "tests/bpf/fixture.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

namespace bulkhead::test {
namespace {

constexpr __u64 any_process = 1;
constexpr __u64 the_class = 2; // bit 1: process class 1

class Process : public BpfTest {
protected:
    // Class 1 has one condition, on `facet`: it holds of `value` and of nothing else.
    static agent::FacetTable only(bh_facet facet, __u64 value, __u32 device = 0)
    {
        agent::FacetTable table;
        for (const __u32 each : {BH_FACET_USER, BH_FACET_CGROUP, BH_FACET_EXECUTABLE})
            table.push_back(
                {{0, 0, each | BH_FACET_DEFAULT}, {{each == facet ? any_process : any_process | the_class, 0, 0, 0}}});
        table.push_back({{value, device, facet}, {{any_process | the_class, 0, 0, 0}}});
        return table;
    }

    static TestPolicy only_the_class_may_go_out()
    {
        TestPolicy policy;
        policy.process_classes(1).default_action(outbound, refuse);
        policy.rule(policy::HostAction::allow, outbound, "10.77.0.2", "tcp/80", 1);
        return policy;
    }

    [[nodiscard]] int guarded_error() const
    {
        int error = -1;
        guarded([&] { error = tcp_error({"10.77.0.2", 80}); });
        return error;
    }
    static constexpr int passed = ECONNREFUSED; // nobody listens there
};

TEST_F(Process, User)
{
    realise(only_the_class_may_go_out(), only(BH_FACET_USER, 4711));
    EXPECT_EQ(guarded_error(), EPERM);
    guarded([&] {
        const pid_t child = ::fork();
        if (child == 0) {
            if (::setuid(4711) != 0)
                ::_exit(255);
            ::_exit(tcp_error({"10.77.0.2", 80}));
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_EQ(WEXITSTATUS(status), passed) << "setuid needs no message to anybody";
    });
    realise(only_the_class_may_go_out(), only(BH_FACET_USER, ::geteuid()));
    EXPECT_EQ(guarded_error(), passed);
}

TEST_F(Process, Executable)
{
    struct stat exe {};
    ASSERT_EQ(::stat("/proc/self/exe", &exe), 0);
    const auto device = static_cast<__u32>(major(exe.st_dev) << 20 | minor(exe.st_dev)); // the kernel's own dev_t
    realise(only_the_class_may_go_out(), only(BH_FACET_EXECUTABLE, exe.st_ino, device));
    EXPECT_EQ(guarded_error(), passed);
    realise(only_the_class_may_go_out(), only(BH_FACET_EXECUTABLE, exe.st_ino, device + 1));
    EXPECT_EQ(guarded_error(), EPERM);
}

TEST_F(Process, InnermostCgroupWithARowDecides)
{
    realise(only_the_class_may_go_out(), only(BH_FACET_CGROUP, world_->enforced.id()));
    EXPECT_EQ(guarded_error(), passed);
    EXPECT_FALSE(HasFailure());

    const Cgroup unit(world_->enforced.path() + "/unit"), worker(unit.path() + "/worker");
    int error = -1;
    const auto from_worker = [&] {
        run_in(world_->wire.guarded, worker, [&] { error = tcp_error({"10.77.0.2", 80}); });
        return error;
    };
    EXPECT_EQ(from_worker(), passed) << "two levels below the row";
    auto facets = only(BH_FACET_CGROUP, world_->enforced.id());
    facets.push_back({{unit.id(), 0, BH_FACET_CGROUP}, {{any_process, 0, 0, 0}}});
    ASSERT_TRUE(datapath_->update_facets(datapath_->control().generation, facets));
    EXPECT_EQ(from_worker(), EPERM);
    EXPECT_EQ(guarded_error(), passed);
    facets.pop_back();
    ASSERT_TRUE(datapath_->update_facets(datapath_->control().generation, facets));
    EXPECT_EQ(from_worker(), passed) << "a row that is gone is gone";

    bh_judge_request request{};
    request.remote = abi_address("10.77.0.2");
    request.port = 80;
    request.protocol = 6;
    request.subject.cgroup_id = worker.id();
    ASSERT_TRUE(datapath_->judge({&request, 1}));
    EXPECT_EQ(request.verdict, BH_ALLOWED);
    EXPECT_EQ(request.classes.word[0], any_process | the_class);
    request.subject.cgroup_id = world_->elsewhere.id();
    ASSERT_TRUE(datapath_->judge({&request, 1}));
    EXPECT_EQ(request.verdict, BH_DENIED);
}

TEST_F(Process, InboundIsJudgedByTheListenersOwner)
{
    const Cgroup unit(world_->enforced.path() + "/unit"), worker(unit.path() + "/worker");
    TestPolicy policy;
    policy.process_classes(1).default_action(inbound, refuse);
    policy.rule(policy::HostAction::allow, inbound, "any", "tcp/80-81", 1);
    policy.rule(policy::HostAction::allow, inbound, "any", "udp/80-81", 1);
    realise(policy, only(BH_FACET_CGROUP, unit.id()));
    UniqueFd right, wrong, right_datagrams, wrong_datagrams;
    run_in(world_->wire.guarded, worker, [&] {
        right = listening({"10.77.0.1", 80});
        right_datagrams = bound(SOCK_DGRAM, {"10.77.0.1", 80});
    });
    guarded([&] {
        wrong = listening({"10.77.0.1", 81});
        wrong_datagrams = bound(SOCK_DGRAM, {"10.77.0.1", 81});
    });
    UniqueFd sender;
    const auto expect_right_only = [&] {
        peer([&] {
            EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0);
            EXPECT_EQ(tcp_error({"10.77.0.1", 81}), ECONNREFUSED);
            sender = make_socket(AF_INET, SOCK_DGRAM);
            EXPECT_EQ(send_to_error(sender, {"10.77.0.1", 80}), 0);
            EXPECT_EQ(send_to_error(sender, {"10.77.0.1", 81}), 0);
        });
        EXPECT_EQ(receive(right_datagrams).text, "x");
        EXPECT_EQ(receive(wrong_datagrams).text, "");
    };
    expect_right_only();

    // The same after a walk has found both held by this process, which is in neither cgroup now.
    run_in(world_->wire.guarded, worker,
           [&] { EXPECT_TRUE(datapath_->adopt_listeners(datapath_->walk_sockets().value())); });
    peer([&] {
        EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0);
        EXPECT_EQ(tcp_error({"10.77.0.1", 81}), 0) << "its owner is in the unit at the time of the walk";
    });
}

// Whoever may make cgroups below a unit: so deep that no path leads there, and the unit is far above.
TEST_F(Process, HowDeepACgroupIsMakesNoDifference)
{
    const Cgroup unit(world_->enforced.path() + "/unit"), top(unit.path() + "/top");
    TestPolicy policy;
    policy.process_classes(1);
    for (const auto direction : {inbound, outbound})
        for (const char* service : {"tcp/80", "udp/80"})
            policy.rule(policy::HostAction::deny, direction, "10.77.0.2", service, 1);
    realise(policy, only(BH_FACET_CGROUP, unit.id()));
    const std::string name(250, 'n');
    std::vector<UniqueFd> folders;
    folders.emplace_back(::open(top.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (int level = 0; level < 20; ++level) {
        ASSERT_EQ(::mkdirat(folders.back().get(), name.c_str(), 0755), 0);
        folders.emplace_back(::openat(folders.back().get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        ASSERT_TRUE(folders.back());
    }
    const auto sent_in = [&](const std::function<void()>& work) {
        run_in(world_->wire.guarded, top, [&] {
            const UniqueFd processes(::openat(folders.back().get(), "cgroup.procs", O_WRONLY | O_CLOEXEC));
            ASSERT_EQ(::write(processes.get(), "0", 1), 1);
            work();
        });
    };
    UniqueFd server, datagrams;
    sent_in([&] {
        server = listening({"10.77.0.1", 80});
        datagrams = bound(SOCK_DGRAM, {"10.77.0.1", 80});
        EXPECT_EQ(tcp_error({"10.77.0.2", 80}), EPERM);
        EXPECT_TRUE(datapath_->adopt_listeners(datapath_->walk_sockets().value()));
    });
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 80}), ECONNREFUSED) << "as the walk has it"; });
    sent_in([&] { server = listening({"10.77.0.1", 81}); });
    struct stat deepest {};
    ASSERT_EQ(::fstat(folders.back().get(), &deepest), 0);
    bh_judge_request request{};
    request.remote = abi_address("10.77.0.2");
    request.port = 80;
    request.protocol = 6;
    request.subject.cgroup_id = deepest.st_ino;
    ASSERT_TRUE(datapath_->judge({&request, 1}));
    EXPECT_EQ(request.verdict, BH_DENIED);
    sent_in([&] { server = listening({"10.77.0.1", 80}); });
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 80}), ECONNREFUSED) << "as the kernel has it"; });
    server.reset();
    datagrams.reset();
    for (folders.pop_back(); !folders.empty(); folders.pop_back())
        EXPECT_EQ(::unlinkat(folders.back().get(), name.c_str(), AT_REMOVEDIR), 0);
}

class ProcessUdp : public Process {
protected:
    void SetUp() override
    {
        Process::SetUp();
        if (IsSkipped())
            return;
        unit_.emplace(world_->enforced.path() + "/unit");
        worker_.emplace(unit_->path() + "/worker");
    }
    void TearDown() override
    {
        worker_.reset();
        unit_.reset();
        Process::TearDown();
    }
    // Nothing passes but what processes of the unit do.
    void only_the_unit_may(policy::Direction direction, std::string_view peers, std::string_view service)
    {
        TestPolicy policy;
        policy.process_classes(1).default_action(inbound, refuse).default_action(outbound, refuse);
        policy.rule(policy::HostAction::allow, direction, peers, service, 1);
        realise(policy, only(BH_FACET_CGROUP, unit_->id()));
    }
    [[nodiscard]] UniqueFd bound_in(const Cgroup& cgroup, const Address& address) const
    {
        UniqueFd made;
        run_in(world_->wire.guarded, cgroup, [&] { made = bound(SOCK_DGRAM, address); });
        return made;
    }
    [[nodiscard]] int reply_in(const Cgroup& cgroup, const UniqueFd& socket, const Datagram& to) const
    {
        int error = -1;
        run_in(world_->wire.guarded, cgroup, [&] { error = reply_error(socket, to, "answer"); });
        return error;
    }
    std::optional<Cgroup> unit_, worker_;
};

TEST_F(ProcessUdp, AnAnswerIsOfWhoHeard)
{
    only_the_unit_may(inbound, "any", "udp/7300");
    for (const auto& [ours, theirs] : {std::pair("10.77.0.1", "10.77.0.2"), std::pair("fd77::1", "fd77::2")}) {
        const Address port(ours, 7300);
        UniqueFd caller;
        peer([&] { caller = bound(SOCK_DGRAM, {theirs, 5555}); });
        auto server = bound_in(*unit_, port);
        ASSERT_EQ(send_to_error(caller, port, "question"), 0);
        const auto question = receive(server);
        ASSERT_EQ(question.text, "question");
        EXPECT_EQ(reply_in(*unit_, server, question), 0);
        EXPECT_EQ(reply_in(world_->enforced, server, question), 0) << "the socket that heard, whoever holds it now";

        server.reset();
        server = bound_in(*unit_, port);
        EXPECT_EQ(reply_in(*unit_, server, question), 0) << "another socket of its kind";
        server.reset();
        server = bound_in(*worker_, port);
        EXPECT_EQ(reply_in(*worker_, server, question), 0) << "who may hear may answer";
        server.reset();
        server = bound_in(world_->enforced, port);
        EXPECT_EQ(reply_in(world_->enforced, server, question), EPERM) << "somebody else took the port";
        const auto denied = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
        ASSERT_TRUE(denied);
        EXPECT_EQ(denied->direction, BH_OUTBOUND);
        EXPECT_EQ(denied->remote_port, 5555);
        EXPECT_EQ(denied->subject.cgroup_id, world_->enforced.id());
    }
}

TEST_F(ProcessUdp, WithoutRulesAboutProcessesAConversationIsAnybodys)
{
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .default_action(inbound, refuse)
                .allow(inbound, "any", "udp/7300"));
    UniqueFd caller;
    peer([&] { caller = bound(SOCK_DGRAM, {"10.77.0.2", 5555}); });
    auto server = bound_in(*unit_, {"10.77.0.1", 7300});
    ASSERT_EQ(send_to_error(caller, {"10.77.0.1", 7300}, "question"), 0);
    const auto question = receive(server);
    server.reset();
    server = bound_in(world_->enforced, {"10.77.0.1", 7300});
    EXPECT_EQ(reply_in(world_->enforced, server, question), 0);
    only_the_unit_may(inbound, "any", "udp/7300");
    EXPECT_EQ(reply_in(world_->enforced, server, question), EPERM) << "the new policy says whose it is";
}

TEST_F(ProcessUdp, AReplyIsForWhoAsked)
{
    only_the_unit_may(outbound, "any", "udp/53");
    for (const auto& [ours, theirs] : {std::pair("10.77.0.1", "10.77.0.2"), std::pair("fd77::1", "fd77::2")}) {
        const Address port(ours, 4000), service(theirs, 53);
        UniqueFd resolver;
        peer([&] { resolver = bound(SOCK_DGRAM, service); });
        auto client = bound_in(*unit_, port);
        run_in(world_->wire.guarded, *unit_, [&] { ASSERT_EQ(send_to_error(client, service, "question"), 0); });
        const auto question = receive(resolver);
        ASSERT_EQ(question.text, "question");
        const auto heard_by = [&](const Cgroup& cgroup, bool anew = true) {
            if (anew) {
                client.reset();
                client = bound_in(cgroup, port);
            }
            EXPECT_EQ(reply_error(resolver, question, "answer"), 0);
            return receive(client).text;
        };
        EXPECT_EQ(heard_by(*unit_, false), "answer");
        EXPECT_EQ(heard_by(*unit_), "answer") << "another socket of its kind";
        EXPECT_EQ(heard_by(*worker_), "answer") << "who may ask may hear the reply";
        EXPECT_EQ(heard_by(world_->enforced), "") << "somebody else took the port";
        const auto denied = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
        ASSERT_TRUE(denied);
        EXPECT_EQ(denied->direction, BH_INBOUND);
        EXPECT_EQ(denied->local_port, 4000);
    }
}

// A conversation is one process', and between two ends the table has one.
TEST_F(ProcessUdp, WhoSendsFromAnothersPortBeginsAConversation)
{
    realise(TestPolicy().default_action(outbound, permit));
    const auto is_connect = [](const bh_event& event) { return event.type == BH_EVENT_CONNECT; };
    for (const auto& [ours, theirs] : {std::pair("10.77.0.1", "10.77.0.2"), std::pair("fd77::1", "fd77::2")}) {
        const Address port(ours, 4000), service(theirs, 53);
        for (const Cgroup* cgroup : {&*unit_, &world_->enforced}) {
            const auto client = bound_in(*cgroup, port);
            run_in(world_->wire.guarded, *cgroup, [&] {
                for (int i = 0; i < 10; ++i)
                    ASSERT_EQ(send_to_error(client, service), 0);
            });
            const auto told = wait_for(is_connect);
            ASSERT_TRUE(told);
            EXPECT_EQ(told->cookie, cookie_of(client));
            EXPECT_EQ(told->subject.cgroup_id, cgroup->id());
            EXPECT_EQ(told->listed, 1);
            EXPECT_EQ(drained_count(is_connect), 0U);
            std::size_t of_this = 0;
            const auto flows = datapath_->udp_flows().value();
            for (const auto& [key, flow] : flows)
                of_this += flow.cookie == cookie_of(client) && flow.subject.cgroup_id == cgroup->id();
            EXPECT_EQ(of_this, 1U);
        }
    }
}

TEST_F(ProcessUdp, AShadowRefusalIsToldOfEachWhoSendsFromAPort)
{
    TestPolicy policy;
    policy.default_action(outbound, refuse, policy::plane_bit(policy::Plane::shadow));
    realise(policy);
    for (const Cgroup* cgroup : {&*unit_, &world_->enforced}) {
        const auto client = bound_in(*cgroup, {"10.77.0.1", 4000});
        run_in(world_->wire.guarded, *cgroup, [&] {
            for (int i = 0; i < 10; ++i)
                ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
        });
        EXPECT_EQ(drained_count([&](const bh_event& event) {
                      return event.type == BH_EVENT_DENY && event.subject.cgroup_id == cgroup->id();
                  }),
                  1U);
    }
}

TEST_F(ProcessUdp, AConversationIsJudgedAgainByWhoSentLast)
{
    realise(TestPolicy().default_action(outbound, permit).default_action(inbound, refuse));
    UniqueFd resolver;
    peer([&] { resolver = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    UniqueFd client;
    Datagram question;
    for (const Cgroup* cgroup : {&*unit_, &world_->enforced}) {
        client.reset();
        client = bound_in(*cgroup, {"10.77.0.1", 4000});
        run_in(world_->wire.guarded, *cgroup, [&] {
            ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}, "question"), 0);
        });
        question = receive(resolver);
        ASSERT_EQ(question.text, "question");
    }
    EXPECT_EQ(reply_error(resolver, question, "answer"), 0);
    EXPECT_EQ(receive(client).text, "answer");
    only_the_unit_may(outbound, "any", "udp/53");
    const auto flows = datapath_->udp_flows().value();
    for (const auto& [key, flow] : flows) { // as the sessions' keeper does
        bh_judge_request request{};
        request.remote = key.remote;
        request.port = key.remote_port;
        request.protocol = IPPROTO_UDP;
        request.direction = flow.direction;
        request.subject = flow.subject;
        ASSERT_TRUE(datapath_->judge({&request, 1}));
        if (request.verdict == BH_DENIED) {
            ASSERT_TRUE(datapath_->forget_udp_flow(key));
        }
    }
    EXPECT_EQ(reply_error(resolver, question, "answer"), 0);
    EXPECT_EQ(receive(client).text, "");
}

TEST_F(ProcessUdp, AnUnboundSocketHearsItsReply)
{
    only_the_unit_may(outbound, "any", "udp/53");
    UniqueFd resolver, client;
    peer([&] { resolver = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    run_in(world_->wire.guarded, *unit_, [&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}, "question"), 0);
    });
    ASSERT_EQ(reply_error(resolver, receive(resolver), "answer"), 0);
    EXPECT_EQ(receive(client).text, "answer");
}

TEST_F(Process, DenyOfAClassWins)
{
    TestPolicy policy;
    policy.process_classes(1).default_action(outbound, permit);
    policy.rule(policy::HostAction::deny, outbound, "any", "tcp/80", 1);
    policy.allow(outbound, "10.77.0.2", "tcp/80");
    realise(policy, only(BH_FACET_USER, ::geteuid()));
    EXPECT_EQ(guarded_error(), EPERM);
    realise(policy, only(BH_FACET_USER, 4711));
    EXPECT_EQ(guarded_error(), passed);
}

} // namespace
} // namespace bulkhead::test
