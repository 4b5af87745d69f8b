// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>

#include <algorithm>

#include <cerrno>
#include <chrono>
#include <thread>

namespace bulkhead::test {
namespace {

class Udp : public BpfTest {
protected:
    static TestPolicy only_resolvers()
    {
        return TestPolicy()
            .default_action(outbound, refuse)
            .default_action(inbound, refuse)
            .allow(outbound, "10.77.0.2", "udp/53")
            .allow(outbound, "fd77::2", "udp/53");
    }
    [[nodiscard]] std::size_t count(const std::vector<bh_event>& events, bh_event_type type) const
    {
        return static_cast<std::size_t>(
            std::count_if(events.begin(), events.end(), [type](const bh_event& event) { return event.type == type; }));
    }
};

TEST_F(Udp, ConnectedSocketsAreJudgedAtConnect)
{
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .allow(outbound, "10.77.0.2", "udp/53")
                .allow(outbound, "fd77::2", "udp/53"));
    guarded([&] {
        EXPECT_EQ(udp_connect_error({"10.77.0.2", 53}), 0);
        EXPECT_EQ(udp_connect_error({"10.77.0.3", 53}), EPERM);
        EXPECT_EQ(udp_connect_error({"fd77::2", 53}), 0);
        EXPECT_EQ(udp_connect_error({"fd77::3", 53}), EPERM);
    });
}

TEST_F(Udp, ConnectedConversationIsOneConnectAndOneClose)
{
    realise(TestPolicy().default_action(outbound, permit));
    UniqueFd server, client;
    peer([&] { server = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(connect_error(client, {"10.77.0.2", 53}), 0);
    });
    const auto cookie = cookie_of(client);
    ASSERT_EQ(send_error(client, "question"), 0);
    const auto question = receive(server);
    ASSERT_EQ(question.text, "question");
    ASSERT_EQ(reply_error(server, question, "answer"), 0);
    EXPECT_EQ(receive(client).text, "answer");
    const auto port = port_of(client);
    client.reset();
    const auto opened = wait_for([&](const bh_event& event) { return event.type == BH_EVENT_CONNECT; });
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->cookie, cookie);
    EXPECT_EQ(opened->protocol, IPPROTO_UDP);
    EXPECT_EQ(opened->remote_port, 53);
    const auto closed = wait_for([&](const bh_event& event) { return event.type == BH_EVENT_UDP_CLOSE; });
    ASSERT_TRUE(closed);
    EXPECT_EQ(closed->cookie, cookie);
    EXPECT_EQ(closed->local_port, port);
    EXPECT_EQ(closed->remote_port, 53);
}

TEST_F(Udp, RepliesToUnconnectedSocketsPass)
{
    realise(only_resolvers());
    for (const char* address : {"10.77.0.2", "fd77::2"}) {
        UniqueFd server, stranger, client;
        peer([&] {
            server = bound(SOCK_DGRAM, {address, 53});
            stranger = bound(SOCK_DGRAM, {address, 54});
        });
        guarded([&] {
            client = make_socket(Address(address, 0).family(), SOCK_DGRAM); // gets its port at the first send
            EXPECT_EQ(send_to_error(client, {address, 54}), EPERM);
            ASSERT_EQ(send_to_error(client, {address, 53}, "question"), 0);
        });
        const auto question = receive(server);
        ASSERT_EQ(question.text, "question");
        EXPECT_EQ(reply_error(server, question, "answer"), 0);
        EXPECT_EQ(receive(client).text, "answer");
        realise(only_resolvers()); // a new generation: the conversation goes on
        EXPECT_EQ(reply_error(server, question, "more"), 0);
        EXPECT_EQ(receive(client).text, "more");
        EXPECT_EQ(reply_error(stranger, question, "intruder"), 0);
        EXPECT_EQ(receive(client).text, "") << "another port of the same host is another conversation";
    }
}

TEST_F(Udp, InboundConversationsAreJudgedAndTheirAnswersPass)
{
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .default_action(inbound, refuse)
                .allow(inbound, "10.77.0.2", "udp/53"));
    UniqueFd server, friendly, stranger;
    guarded([&] { server = bound(SOCK_DGRAM, {"0.0.0.0", 53}); });
    peer([&] {
        friendly = bound(SOCK_DGRAM, {"10.77.0.2", 0});
        stranger = bound(SOCK_DGRAM, {"10.77.0.3", 0});
        ASSERT_EQ(connect_error(stranger, {"10.77.0.1", 53}), 0);
    });
    ASSERT_EQ(send_to_error(friendly, {"10.77.0.1", 53}, "question"), 0);
    const auto question = receive(server);
    ASSERT_EQ(question.text, "question");
    EXPECT_EQ(reply_error(server, question, "answer"), 0) << "outbound is refused, but this is a reply";
    EXPECT_EQ(receive(friendly).text, "answer");
    ASSERT_EQ(send_error(stranger, "let me in"), 0);
    EXPECT_EQ(receive(server).text, "");
    EXPECT_EQ(send_error(stranger), ECONNREFUSED) << "port unreachable, as from a closed port";

    const auto events = drain();
    EXPECT_EQ(count(events, BH_EVENT_UDP_OPEN), 1U);
    EXPECT_EQ(count(events, BH_EVENT_DENY), 1U);
}

TEST_F(Udp, ConversationIsToldOnce)
{
    realise(TestPolicy().default_action(outbound, permit).default_action(inbound, permit));
    UniqueFd server, client;
    peer([&] { server = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        for (int i = 0; i < 20; ++i)
            ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
    });
    for (int i = 0; i < 20; ++i)
        ASSERT_EQ(reply_error(server, receive(server), "answer"), 0);
    const auto events = drain();
    EXPECT_EQ(count(events, BH_EVENT_CONNECT), 1U);
    EXPECT_EQ(count(events, BH_EVENT_UDP_OPEN), 0U);
    EXPECT_EQ(datapath_->udp_flows().value().size(), 1U);
}

TEST_F(Udp, NewPolicyIsAskedForTheNextDatagram)
{
    realise(TestPolicy().default_action(outbound, permit));
    UniqueFd client;
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
    });
    realise(TestPolicy().default_action(outbound, refuse));
    EXPECT_EQ(send_to_error(client, {"10.77.0.2", 53}), EPERM);
}

// For as long as it lives, so that what this thread sends and hears is seen by one CPU.
class OnOneCpu {
public:
    OnOneCpu()
    {
        (void)::sched_getaffinity(0, sizeof(before_), &before_);
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(::sched_getcpu(), &one);
        EXPECT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
    }
    ~OnOneCpu() { (void)::sched_setaffinity(0, sizeof(before_), &before_); }
    OnOneCpu(const OnOneCpu&) = delete;
    OnOneCpu& operator=(const OnOneCpu&) = delete;

private:
    cpu_set_t before_{};
};

// What a CPU has just seen under way is not looked up again (bpf/recent_udp.h).
TEST_F(Udp, WhatWasUnderWayAMomentAgoIsJudgedByTheNextPolicy)
{
    const OnOneCpu pinned;
    const auto only_questions = TestPolicy()
                                    .default_action(outbound, refuse)
                                    .default_action(inbound, refuse)
                                    .allow(inbound, "10.77.0.2", "udp/53")
                                    .allow(inbound, "fd77::2", "udp/53");
    for (const char* address : {"10.77.0.2", "fd77::2"}) {
        const bool v4 = Address(address, 0).family() == AF_INET;
        realise(only_questions);
        UniqueFd server, client;
        Datagram question;
        guarded([&] { server = bound(SOCK_DGRAM, {v4 ? "10.77.0.1" : "fd77::1", 53}); });
        peer([&] { client = bound(SOCK_DGRAM, {address, 5300}); });
        for (int i = 0; i < 2; ++i)
            ASSERT_EQ(send_to_error(client, {v4 ? "10.77.0.1" : "fd77::1", 53}, "question"), 0);
        EXPECT_EQ(send_to_error(server, {address, 5300}), EPERM) << "under way, and nothing of it was read";
        for (int i = 0; i < 5; ++i) {
            ASSERT_EQ(send_to_error(client, {v4 ? "10.77.0.1" : "fd77::1", 53}, "question"), 0);
            question = receive(server);
            ASSERT_EQ(question.text, "question");
            ASSERT_EQ(reply_error(server, question, "answer"), 0);
            ASSERT_EQ(receive(client).text, "answer");
        }
        ASSERT_EQ(receive(server).text, "question");
        ASSERT_EQ(receive(server).text, "question");
        realise(TestPolicy().default_action(outbound, refuse).default_action(inbound, refuse));
        EXPECT_EQ(send_to_error(client, {v4 ? "10.77.0.1" : "fd77::1", 53}, "late question"), 0);
        const auto flows = datapath_->udp_flows();
        ASSERT_TRUE(flows);
        for (const auto& [key, flow] : *flows) // as `sessions: cut` does
            ASSERT_TRUE(datapath_->forget_udp_flow(key));
        EXPECT_EQ(reply_error(server, question, "late answer"), EPERM);
        EXPECT_EQ(receive(server).text, "");
    }
}

// One in 256 others has its place where the conversation has that is under way.
TEST_F(Udp, AConversationThatIsUnderWayLetsNobodyElsePass)
{
    const OnOneCpu pinned;
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .default_action(inbound, refuse)
                .allow(inbound, "10.77.0.2", "udp/53"));
    ip(world_->wire.peer, "route add local 10.79.0.0/16 dev lo");
    ip(world_->wire.guarded, "route add 10.79.0.0/16 via 10.77.0.2");
    UniqueFd server, other_server, friendly;
    guarded([&] {
        server = bound(SOCK_DGRAM, {"10.77.0.1", 53});
        other_server = bound(SOCK_DGRAM, {"10.77.0.1", 54});
    });
    peer([&] { friendly = bound(SOCK_DGRAM, {"10.77.0.2", 5300}); });
    for (std::uint16_t i = 0; i < 2048; ++i) {
        if (i % 64 == 0) {
            ASSERT_EQ(send_to_error(friendly, {"10.77.0.1", 53}, "question"), 0);
            const auto question = receive(server);
            ASSERT_EQ(question.text, "question") << "and nothing of a stranger's";
            ASSERT_EQ(reply_error(server, question, "answer"), 0);
            ASSERT_EQ(reply_error(other_server, question, "from another port"), EPERM);
            ASSERT_EQ(receive(friendly).text, "answer");
        }
        const std::string stranger = fmt::format("10.79.{}.{}", i / 256, i % 256);
        const auto other_port = static_cast<std::uint16_t>(10000 + i);
        peer([&] {
            const UniqueFd by_address = bound(SOCK_DGRAM, {stranger, 5300});
            ASSERT_EQ(send_to_error(by_address, {"10.77.0.1", 53}, "intruder"), 0);
            const UniqueFd by_port = bound(SOCK_DGRAM, {"10.77.0.2", other_port});
            ASSERT_EQ(send_to_error(by_port, {"10.77.0.1", 54}, "intruder"), 0);
        });
        ASSERT_EQ(send_to_error(server, {stranger, 5300}), EPERM);
        ASSERT_EQ(send_to_error(other_server, {"10.77.0.2", other_port}), EPERM);
    }
    EXPECT_EQ(receive(server).text, "");
    EXPECT_EQ(receive(other_server).text, "");
}

TEST_F(Udp, ForgottenConversationIsJudgedAnew)
{
    realise(TestPolicy().default_action(outbound, permit).default_action(inbound, refuse));
    UniqueFd server, client;
    peer([&] { server = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
    });
    const auto question = receive(server);
    ASSERT_EQ(reply_error(server, question, "one"), 0);
    EXPECT_EQ(receive(client).text, "one");
    const auto flows = datapath_->udp_flows();
    ASSERT_TRUE(flows);
    ASSERT_EQ(flows->size(), 1U);
    for (const auto& [key, flow] : *flows)
        ASSERT_TRUE(datapath_->forget_udp_flow(key));
    ASSERT_EQ(reply_error(server, question, "two"), 0);
    EXPECT_EQ(receive(client).text, "");
}

// No policy changes, and no agent looks.
TEST_F(Udp, AConversationDoesNotOutliveTheRuleThatAllowedIt)
{
    constexpr auto lasts = std::chrono::milliseconds(3000);
    UniqueFd peer_server, client, server, friendly;
    peer([&] {
        peer_server = bound(SOCK_DGRAM, {"10.77.0.2", 53});
        friendly = bound(SOCK_DGRAM, {"10.77.0.2", 0});
    });
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        server = bound(SOCK_DGRAM, {"10.77.0.1", 54});
    });
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .default_action(inbound, refuse)
                .allow(outbound, "10.77.0.2", "udp/53")
                .expires_in(lasts)
                .allow(inbound, "10.77.0.2", "udp/54")
                .expires_in(lasts));
    const auto expired = std::chrono::steady_clock::now() + lasts;
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}, "question"), 0);
        ASSERT_EQ(receive(peer_server).text, "question");
        ASSERT_EQ(send_to_error(friendly, {"10.77.0.1", 54}, "question"), 0);
        ASSERT_EQ(receive(server).text, "question");
    }
    ASSERT_LT(std::chrono::steady_clock::now(), expired) << "this machine is too slow for the test";
    std::this_thread::sleep_until(expired + std::chrono::milliseconds(100));
    EXPECT_EQ(send_to_error(client, {"10.77.0.2", 53}, "more"), EPERM);
    (void)send_to_error(friendly, {"10.77.0.1", 54}, "more");
    EXPECT_EQ(receive(server).text, "");
}

// A clock that is read here is behind what another CPU has written into the entry a moment later.
TEST_F(Udp, AConversationThatAnotherCpuHasJustSeenLives)
{
    realise(only_resolvers());
    UniqueFd server, client;
    peer([&] { server = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
    });
    const auto question = receive(server);
    const auto flows = datapath_->udp_flows();
    ASSERT_TRUE(flows);
    ASSERT_EQ(flows->size(), 1U);
    auto [key, flow] = flows->front();
    flow.last_ns += 20'000'000'000;
    flow.last_tick = 0;
    const UniqueFd map(bpf_obj_get((options().pin_dir + "/test/maps/bh_udp_out").c_str()));
    ASSERT_EQ(bpf_map_update_elem(map.get(), &key, &flow, BPF_EXIST), 0);
    ASSERT_EQ(reply_error(server, question, "answer"), 0);
    EXPECT_EQ(receive(client).text, "answer");
}

TEST_F(Udp, ShadowRefusalIsToldOnceAConversation)
{
    TestPolicy policy;
    policy.default_action(outbound, refuse, policy::plane_bit(policy::Plane::shadow));
    realise(policy);
    guarded([&] {
        const UniqueFd client = make_socket(AF_INET, SOCK_DGRAM);
        for (int i = 0; i < 10; ++i)
            EXPECT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
    });
    const auto events = drain();
    EXPECT_EQ(count(events, BH_EVENT_DENY), 1U);
    EXPECT_EQ(count(events, BH_EVENT_CONNECT), 1U);
}

} // namespace
} // namespace bulkhead::test
