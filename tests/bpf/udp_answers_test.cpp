// SPDX-License-Identifier: Apache-2.0
// Servers that answer by UDP sockets that they connect to whom they heard.
#include "agent/sessions/sessions.h"
#include "common/core/clock.h"
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace bulkhead::test {
namespace {

class UdpAnswers : public BpfTest {
protected:
    static TestPolicy only_questions(std::string_view service = "udp/53")
    {
        return TestPolicy()
            .default_action(outbound, refuse)
            .default_action(inbound, refuse)
            .allow(inbound, "10.77.0.2", service)
            .allow(inbound, "fd77::2", service);
    }
    // As such servers have them: more than one may be at a port.
    static UniqueFd sharing(const Address& address)
    {
        auto made = make_socket(address.family(), SOCK_DGRAM);
        set_option(made, SOL_SOCKET, SO_REUSEADDR, 1);
        EXPECT_EQ(::bind(made.get(), address.get(), address.size), 0);
        return made;
    }
    // `server` has read a question from `client`, which is at `from`.
    void ask(const Address& from = {"10.77.0.2", 5300}, const Address& to = {"10.77.0.1", 53},
             const Address& at = {"0.0.0.0", 53})
    {
        guarded([&] { server = sharing(at); });
        peer([&] { client = sharing(from); });
        ASSERT_EQ(send_to_error(client, to, "question"), 0);
        ASSERT_EQ(receive(server).text, "question");
    }
    [[nodiscard]] int another_connects(const Address& to, const Address& at = {"0.0.0.0", 53})
    {
        int error = -1;
        guarded([&] {
            another = sharing(at);
            error = connect_error(another, to);
        });
        return error;
    }
    [[nodiscard]] std::optional<__u8> opened(const UniqueFd& socket) const
    {
        std::optional<__u8> found;
        outsider([&] {
            const auto sockets = datapath_->walk_sockets();
            for (const auto& walked : *sockets)
                if (walked.socket.cookie == cookie_of(socket))
                    found = walked.socket.opened;
        });
        return found;
    }
    // How many sessions a change to this policy cuts.
    [[nodiscard]] std::size_t cut_by(const TestPolicy& policy)
    {
        realise(policy);
        std::size_t cut = 0;
        outsider([&] {
            agent::SessionKeeper keeper(*datapath_, system_clock(),
                                        [](const bh_walked_socket&) { return std::nullopt; });
            const auto forbidden = keeper.after_switch({policy::Sessions::Kind::cut, {}});
            ASSERT_TRUE(forbidden) << forbidden.error().message;
            for (const auto& session : *forbidden)
                cut += session.destroyed ? 1 : 0;
        });
        return cut;
    }
    void expect_said(const UniqueFd& socket, std::string_view text)
    {
        EXPECT_EQ(send_error(socket, text), 0);
        EXPECT_EQ(receive(client).text, text);
    }

    UniqueFd server, client, another;
};

TEST_F(UdpAnswers, WhoHeardMayConnectToWhomItHeard)
{
    realise(only_questions());
    struct Case {
        Address from, to, at, answer;
    };
    for (const auto& [from, to, at, answer] : {
             Case{{"10.77.0.2", 5300}, {"10.77.0.1", 53}, {"0.0.0.0", 53}, {"10.77.0.2", 5300}},
             Case{{"10.77.0.2", 5301}, {"10.77.0.1", 53}, {"::", 53}, {"::ffff:10.77.0.2", 5301}},
             Case{{"fd77::2", 5302}, {"fd77::1", 53}, {"::", 53}, {"fd77::2", 5302}},
         }) {
        ask(from, to, at);
        EXPECT_EQ(connect_error(server, answer), 0) << "the socket that heard, as nc(1) has it";
        EXPECT_EQ(opened(server), BH_OPENED_BY_PEER);
        expect_said(server, "answer");
        EXPECT_EQ(another_connects(answer, at), 0) << "another one, as QUIC has it";
        EXPECT_EQ(opened(another), BH_OPENED_BY_PEER);
        expect_said(another, "and more");
        server.reset();
        another.reset();
    }
}

TEST_F(UdpAnswers, AreToldAsWhatCameIn)
{
    realise(only_questions());
    ask();
    ASSERT_EQ(another_connects({"10.77.0.2", 5300}), 0);
    const auto told = wait_for([](const bh_event& event) { return event.type == BH_EVENT_CONNECT; });
    ASSERT_TRUE(told);
    EXPECT_EQ(told->direction, BH_INBOUND);
    EXPECT_EQ(told->verdict, BH_ALLOWED);
    EXPECT_EQ(told->reason, BH_REASON_RULE);
    EXPECT_EQ(told->cookie, cookie_of(another));
    EXPECT_EQ(told->local_port, 53);
    EXPECT_EQ(told->remote_port, 5300);
    EXPECT_EQ(told->subject.pid, static_cast<__u32>(::getpid()));
    EXPECT_EQ(drained_count([](const bh_event& event) { return event.type == BH_EVENT_DENY; }), 0U);
}

TEST_F(UdpAnswers, NobodyElseMayBeConnectedToNorFromElsewhere)
{
    realise(only_questions("udp/53-54"));
    const Address asker("10.77.0.2", 5300);
    guarded([&] { server = sharing({"0.0.0.0", 53}); });
    peer([&] { client = sharing(asker); });
    ASSERT_EQ(send_to_error(client, {"10.77.0.1", 53}, "question"), 0);
    EXPECT_EQ(another_connects(asker), EPERM) << "nothing was read";
    ASSERT_EQ(receive(server).text, "question");
    EXPECT_EQ(another_connects({"10.77.0.2", 5301}), EPERM);
    EXPECT_EQ(another_connects({"10.77.0.3", 5300}), EPERM);
    EXPECT_EQ(another_connects(asker, {"0.0.0.0", 54}), EPERM);
    guarded([&] {
        EXPECT_EQ(udp_connect_error(asker), EPERM) << "of no port";
        EXPECT_EQ(tcp_error(asker), EPERM);
    });
    EXPECT_EQ(another_connects(asker), 0);
    EXPECT_EQ(connect_error(another, {"10.77.0.2", 5301}), EPERM);
    EXPECT_EQ(opened(another), BH_OPENED_BY_PEER) << "it stays connected as it was";
}

// By connect(2) to nobody it would lose the port, and get another, between the question and the connection.
TEST_F(UdpAnswers, APortThatTheKernelChoseMayBeTakenAwayAgain)
{
    realise(only_questions("udp/1-65535"));
    guarded([&] { server = bound(SOCK_DGRAM, {"0.0.0.0", 0}); });
    peer([&] { client = sharing({"10.77.0.2", 5300}); });
    ASSERT_EQ(send_to_error(client, {"10.77.0.1", port_of(server)}, "question"), 0);
    ASSERT_EQ(receive(server).text, "question");
    EXPECT_EQ(connect_error(server, {"10.77.0.2", 5300}), EPERM);
    EXPECT_EQ(send_to_error(server, {"10.77.0.2", 5300}), 0);
}

TEST_F(UdpAnswers, ThePolicyInForceIsAsked)
{
    realise(only_questions());
    ask();
    realise(only_questions("udp/54"));
    EXPECT_EQ(another_connects({"10.77.0.2", 5300}), EPERM) << "a conversation from before";
    realise(only_questions());
    EXPECT_EQ(another_connects({"10.77.0.2", 5300}), 0);
}

TEST_F(UdpAnswers, ATrialTellsOfThoseThatItWouldRefuse)
{
    realise(only_questions());
    ask();
    realise(only_questions().rule(policy::HostAction::deny, inbound, "10.77.0.2", "udp/53", 0,
                                  policy::plane_bit(policy::Plane::shadow)));
    (void)drain();
    ASSERT_EQ(another_connects({"10.77.0.2", 5300}), 0);
    const auto told = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
    ASSERT_TRUE(told);
    EXPECT_EQ(told->verdict, BH_ALLOWED);
    EXPECT_EQ(told->shadow_verdict, BH_DENIED);
    EXPECT_EQ(told->direction, BH_INBOUND);
    EXPECT_EQ(told->local_port, 53);
    EXPECT_EQ(told->remote_port, 5300);
    EXPECT_EQ(told->subject.pid, static_cast<__u32>(::getpid()));
}

TEST_F(UdpAnswers, TheirEndIsToldAlsoWhenTheyAreConnectedToNobodyBefore)
{
    realise(only_questions());
    ask();
    ASSERT_EQ(another_connects({"10.77.0.2", 5300}), 0);
    const auto cookie = cookie_of(another);
    sockaddr nobody{};
    nobody.sa_family = AF_UNSPEC;
    ASSERT_EQ(::connect(another.get(), &nobody, sizeof(nobody)), 0);
    another.reset();
    const auto told = wait_for([](const bh_event& event) { return event.type == BH_EVENT_UDP_CLOSE; });
    ASSERT_TRUE(told);
    EXPECT_EQ(told->cookie, cookie);
}

TEST_F(UdpAnswers, WhatWasReadTooLongAgoIsNotAnswered)
{
    realise(only_questions());
    ask();
    const auto flows = datapath_->udp_flows();
    ASSERT_TRUE(flows);
    ASSERT_EQ(flows->size(), 1U);
    auto [key, flow] = flows->front();
    flow.last_ns -= BH_UDP_IDLE_NS + 1;
    const UniqueFd map(bpf_obj_get((options().pin_dir + "/test/maps/bh_udp_in").c_str()));
    ASSERT_EQ(bpf_map_update_elem(map.get(), &key, &flow, BPF_EXIST), 0);
    EXPECT_EQ(another_connects({"10.77.0.2", 5300}), EPERM);
}

TEST_F(UdpAnswers, AreCutByWhatForbidsTheQuestion)
{
    realise(only_questions().default_action(outbound, permit));
    ask();
    ASSERT_EQ(another_connects({"10.77.0.2", 5300}), 0);
    EXPECT_EQ(cut_by(only_questions()), 0U) << "outbound is refused now";
    expect_said(another, "still there");
    EXPECT_EQ(cut_by(only_questions("udp/54").default_action(outbound, permit)), 1U);
    EXPECT_EQ(send_error(another), EDESTADDRREQ) << "it has no peer any more";
}

TEST_F(UdpAnswers, WhoConnectsByHimselfLaterIsJudgedByThat)
{
    realise(only_questions());
    ask();
    ASSERT_EQ(another_connects({"10.77.0.2", 5300}), 0);
    ASSERT_EQ(datapath_->udp_flows()->size(), 1U);
    ASSERT_TRUE(datapath_->forget_udp_flow(datapath_->udp_flows()->front().first));
    auto both_ways = only_questions().allow(outbound, "10.77.0.2", "udp/5300-5301");
    realise(both_ways);
    ASSERT_EQ(connect_error(another, {"10.77.0.2", 5300}), 0);
    EXPECT_EQ(opened(another), BH_OPENED_BY_CONNECT);
    ASSERT_EQ(connect_error(another, {"10.77.0.2", 5301}), 0);
    ask();
    ASSERT_EQ(connect_error(another, {"10.77.0.2", 5300}), 0);
    EXPECT_EQ(opened(another), BH_OPENED_BY_PEER);
    ASSERT_EQ(connect_error(another, {"10.77.0.2", 5301}), 0);
    EXPECT_EQ(opened(another), BH_OPENED_BY_CONNECT);
    EXPECT_EQ(cut_by(only_questions()), 1U);
}

// Also where what it shares the port with may.
TEST_F(UdpAnswers, WhoMayNotHearMayNotConnect)
{
    constexpr __u64 any = 1, the_class = 2;
    TestPolicy policy;
    policy.process_classes(1).default_action(outbound, refuse).default_action(inbound, refuse);
    policy.rule(policy::HostAction::allow, inbound, "10.77.0.2", "udp/5353", 1);
    agent::FacetTable facets;
    for (const __u32 facet : {BH_FACET_USER, BH_FACET_CGROUP, BH_FACET_EXECUTABLE})
        facets.push_back(
            {{0, 0, facet | BH_FACET_DEFAULT}, {{facet == BH_FACET_USER ? any : any | the_class, 0, 0, 0}}});
    facets.push_back({{::geteuid(), 0, BH_FACET_USER}, {{any | the_class, 0, 0, 0}}});
    realise(policy, facets);
    const Address asker("10.77.0.2", 5300), at("0.0.0.0", 5353);
    ask(asker, {"10.77.0.1", 5353}, at);
    guarded([&] {
        const auto early = sharing(at); // made by one who may
        const pid_t child = ::fork();
        if (child == 0) {
            if (::setuid(4711) != 0)
                ::_exit(255);
            ::_exit(connect_error(sharing(at), asker) * (connect_error(early, asker) == EPERM ? 1 : 2));
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_EQ(WEXITSTATUS(status), EPERM);
    });
    EXPECT_EQ(another_connects(asker, at), 0);
}

} // namespace
} // namespace bulkhead::test
