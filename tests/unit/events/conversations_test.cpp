// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/events/assembler_fixture.h"

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using v1::Record;
using Listing = std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>;

class UdpConversations : public Assembler {
protected:
    [[nodiscard]] bh_event departs() const
    {
        auto sent = event(BH_EVENT_CONNECT, IPPROTO_UDP);
        sent.remote_port = 53;
        sent.subject.pid = 100;
        return sent;
    }
    [[nodiscard]] bh_event arrives() const
    {
        auto received = event(BH_EVENT_UDP_OPEN, IPPROTO_UDP, BH_INBOUND);
        received.cookie = 0;
        received.local_port = 8125;
        return received;
    }
    [[nodiscard]] std::pair<bh_udp_flow_key, bh_udp_flow> listed(const bh_event& of, MonotonicTime opened) const
    {
        bh_udp_flow_key key{};
        key.remote = of.remote;
        key.remote_port = of.remote_port;
        key.local_port = of.local_port;
        key.netns = of.netns;
        bh_udp_flow flow{};
        flow.opened_ns = static_cast<std::uint64_t>(opened.count());
        flow.last_ns = static_cast<std::uint64_t>(clock.monotonic().count());
        flow.cookie = of.cookie;
        flow.direction = of.direction;
        flow.subject = of.subject;
        return {key, flow};
    }
};

// Or a user's own, in a namespace where he has the same address, would end that of a service and take its records.
TEST_F(UdpConversations, OfOneNameInTwoNamespacesAreTwo)
{
    HostIdentity host{"api-1", "agent-1", "boot-1", {{"role", "api"}}, {"shop-api"}, 5};
    host.netns = 4'026'531'840;
    assembler->set_host(host);
    auto of_service = arrives();
    of_service.netns = host.netns;
    auto of_user = of_service;
    of_user.netns = 4'026'532'000;
    assembler->on_event(of_service);
    assembler->on_event(of_user);
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(assembler->open_flows(), 2U);
    EXPECT_NE(records[0].flow_id(), records[1].flow_id());
    const auto now = clock.monotonic();
    assembler->tick({}, Listing{listed(of_service, now), listed(of_user, now)});
    clock.advance(10s);
    assembler->tick({}, Listing{listed(of_service, now)});
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(records[2].event(), Record::CLOSE);
    EXPECT_EQ(records[2].flow_id(), records[1].flow_id());
}

// Quadratic in any of these, it would take minutes, and the agent would be ended for it.
TEST_F(UdpConversations, OneSocketMayHaveThemAll)
{
    constexpr unsigned peers = 100'000;
    auto sent = departs();
    const auto to = [&sent](unsigned peer) {
        sent.remote = address("2001:db8::1");
        std::memcpy(sent.remote.byte + 8, &peer, sizeof(peer));
        return sent;
    };
    for (unsigned round = 0; round < 2; ++round)
        for (unsigned peer = 0; peer < peers; ++peer)
            assembler->on_event(to(peer));
    EXPECT_EQ(assembler->open_flows(), peers);
    sent.type = BH_EVENT_UDP_CLOSE;
    assembler->on_event(sent);
    EXPECT_EQ(assembler->open_flows(), 0U);
    EXPECT_EQ(records.size(), 4 * peers);
}

TEST_F(UdpConversations, AConnectedSocketLastsUntilItIsReleased)
{
    auto sent = departs();
    sent.local = {};
    sent.local_port = 0;
    assembler->on_event(sent);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].event(), Record::OPEN);
    EXPECT_EQ(records[0].rule(), "shop/dns");
    EXPECT_EQ(records[0].process().pid(), 100U);
    clock.advance(4min);
    tick();
    EXPECT_EQ(records.size(), 1U);
    auto released = departs();
    released.type = BH_EVENT_UDP_CLOSE;
    assembler->on_event(released);
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].event(), Record::CLOSE);
    EXPECT_EQ(records[1].flow_id(), records[0].flow_id());
    EXPECT_EQ(records[1].src().port(), 40000U);
    EXPECT_EQ(records[1].duration_us(), 240'000'000U);
    EXPECT_FALSE(records[1].has_bytes_out());
    EXPECT_FALSE(records[1].has_packets_in());
    EXPECT_FALSE(records[1].has_tcp());
}

// Nobody sees what is said between the two then, until the socket is closed; and what is heard besides, by those that
// share its port, is told of as before.
TEST_F(UdpConversations, ASocketThatIsConnectedToAnswerHasAFlowOfItsOwn)
{
    const auto began = clock.monotonic();
    auto heard = arrives();
    heard.local_port = 80;
    assembler->on_event(heard);
    auto answers = heard;
    answers.type = BH_EVENT_CONNECT;
    answers.cookie = 77;
    answers.local = address("0.0.0.0");
    answers.subject.pid = 300;
    assembler->on_event(answers);
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].event(), Record::OPEN);
    EXPECT_EQ(records[1].direction(), Record::INBOUND);
    EXPECT_EQ(records[1].dst().ip(), ip("10.0.0.1"));
    EXPECT_EQ(records[1].process().pid(), 300U);
    EXPECT_NE(records[1].flow_id(), records[0].flow_id());
    EXPECT_EQ(direction_of(answers), policy::Direction::inbound);
    auto same_peer = answers; // which it had said something to by itself before, and has yet in the table
    same_peer.direction = BH_OUTBOUND;
    tick({listed(heard, began), listed(same_peer, began)});
    clock.advance(4min);
    tick();
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(records[2].event(), Record::CLOSE);
    EXPECT_EQ(records[2].flow_id(), records[0].flow_id());
    auto released = answers;
    released.type = BH_EVENT_UDP_CLOSE;
    released.direction = BH_OUTBOUND;
    released.time_ns = static_cast<std::uint64_t>(clock.monotonic().count());
    released.local = heard.local;
    assembler->on_event(released);
    ASSERT_EQ(records.size(), 4U);
    EXPECT_EQ(records[3].event(), Record::CLOSE);
    EXPECT_EQ(records[3].flow_id(), records[1].flow_id());
    EXPECT_EQ(records[3].direction(), Record::INBOUND);
    EXPECT_EQ(records[3].duration_us(), 240'000'000U);
}

TEST_F(UdpConversations, WhatAnswersWhatIsOlderThanTheAgentHasItsOwnAddress)
{
    const auto heard = arrives();
    tick({listed(heard, clock.monotonic() - 1min)}); // which does not say at which address
    auto answers = heard;
    answers.type = BH_EVENT_CONNECT;
    answers.cookie = 77;
    records.clear();
    assembler->on_event(answers);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].dst().ip(), ip("10.0.0.1"));
}

TEST_F(UdpConversations, OfASocketThatConnectsByItselfLaterTheDirectionIsTheLast)
{
    auto answers = arrives();
    answers.type = BH_EVENT_CONNECT;
    answers.cookie = 77;
    assembler->on_event(answers);
    auto connects = answers;
    connects.direction = BH_OUTBOUND;
    auto elsewhere = connects;
    elsewhere.remote = address("10.0.0.3");
    assembler->on_event(elsewhere);
    EXPECT_EQ(direction_of(answers), policy::Direction::inbound);
    EXPECT_EQ(direction_of(elsewhere), policy::Direction::outbound);
    assembler->on_event(connects);
    EXPECT_EQ(direction_of(answers), policy::Direction::outbound);
}

TEST_F(UdpConversations, OneUnconnectedSocketHasAFlowForEachPeer)
{
    assembler->on_event(departs());
    auto other = departs();
    other.remote = address("10.0.0.3");
    assembler->on_event(other);
    EXPECT_EQ(assembler->open_flows(), 2U);
    EXPECT_NE(records.at(0).flow_id(), records.at(1).flow_id());
    EXPECT_EQ(direction_of(departs()), policy::Direction::outbound);
    other.remote_port = 54;
    EXPECT_EQ(direction_of(other), std::nullopt);
}

TEST_F(UdpConversations, EndsWhenTheKernelDropsIt)
{
    const auto began = clock.monotonic();
    assembler->on_event(departs());
    clock.advance(1s);
    tick({listed(departs(), began)});
    clock.advance(4s);
    tick(); // one listing that lacks it may have failed
    EXPECT_EQ(records.size(), 1U);
    clock.advance(2s);
    tick();
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].event(), Record::CLOSE);
    EXPECT_EQ(records[1].duration_us(), 1'000'000U); // to the last datagram
    EXPECT_EQ(records[1].flow_id(), records[0].flow_id());
}

TEST_F(UdpConversations, EndsWhenIdleAndBeginsAnew)
{
    const auto began = clock.monotonic();
    assembler->on_event(arrives());
    const Listing idle{listed(arrives(), began)};
    for (int i = 0; i < 122; ++i) {
        clock.advance(1s);
        tick(idle); // the table keeps it, nothing is said any more
    }
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].event(), Record::CLOSE);
    EXPECT_EQ(records[1].direction(), Record::INBOUND);
    assembler->on_event(arrives());
    ASSERT_EQ(records.size(), 3U);
    EXPECT_NE(records[2].flow_id(), records[0].flow_id());
}

TEST_F(UdpConversations, AnArrivalThatIsNeverListedEndsWhenIdle)
{
    assembler->on_event(arrives());
    clock.advance(121s);
    tick();
    EXPECT_EQ(records.size(), 2U);
}

TEST_F(UdpConversations, OneOlderThanTheAgentIsAdopted)
{
    const auto before = clock.monotonic() - 10s;
    auto sent = departs();
    tick({listed(sent, before)});
    EXPECT_TRUE(records.empty());
    EXPECT_EQ(assembler->open_flows(), 1U);
    clock.advance(6s);
    tick();
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].event(), Record::CLOSE);
    EXPECT_EQ(records[0].process().pid(), 100U);
    EXPECT_EQ(records[0].duration_us(), 10'000'000U);
}

// The kernel tells of the second, since he is of another kind; the table has one conversation between two ends.
TEST_F(UdpConversations, OfASecondSocketWithThePortOfTheFirstEndsTheFirst)
{
    auto first = departs();
    first.listed = 1;
    assembler->on_event(first);
    clock.advance(100ms); // before any listing
    const auto went_on = clock.monotonic();
    auto second = departs();
    second.listed = 1;
    second.cookie = 78;
    second.subject.pid = 200;
    assembler->on_event(second);
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].event(), Record::OPEN);
    EXPECT_EQ(records[1].process().pid(), 200U);
    EXPECT_NE(records[1].flow_id(), records[0].flow_id());
    for (int i = 0; i < 8; ++i) {
        clock.advance(1s);
        tick({listed(second, went_on)});
    }
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(records[2].event(), Record::CLOSE);
    EXPECT_EQ(records[2].flow_id(), records[0].flow_id());
    EXPECT_EQ(assembler->open_flows(), 1U);

    first = departs(); // sends again
    first.listed = 1;
    assembler->on_event(first);
    ASSERT_EQ(records.size(), 4U);
    EXPECT_NE(records[3].flow_id(), records[0].flow_id());
    EXPECT_EQ(assembler->open_flows(), 2U);
}

// Nothing is told then.
TEST_F(UdpConversations, GoesOnWithAnotherSocketOfItsKind)
{
    const auto began = clock.monotonic();
    auto sent = departs();
    sent.listed = 1;
    sent.time_ns += 10'000; // the kernel reads the clock twice
    assembler->on_event(sent);
    const auto listed_as = [&](std::uint64_t cookie) {
        auto conversation = listed(sent, began);
        conversation.second.cookie = cookie;
        return Listing{conversation};
    };
    for (int i = 0; i < 20; ++i) {
        clock.advance(1s);
        tick(listed_as(i % 2 == 0 ? 78 : 77));
    }
    EXPECT_EQ(records.size(), 1U);
    tick(listed_as(78));
    EXPECT_EQ(assembler->open_flows(), 1U);
    const auto of_socket = [&](std::uint64_t cookie) {
        auto socket = sent;
        socket.cookie = cookie;
        return direction_of(socket);
    };
    EXPECT_EQ(of_socket(78), policy::Direction::outbound);
    EXPECT_EQ(of_socket(77), std::nullopt);
    auto another = listed(sent, clock.monotonic()); // whose event was lost
    another.second.cookie = 79;
    tick({another});
    EXPECT_EQ(of_socket(79), std::nullopt);
    clock.advance(6s);
    tick();
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].event(), Record::CLOSE);
    EXPECT_EQ(records[1].flow_id(), records[0].flow_id());
    EXPECT_EQ(records[1].duration_us(), 19'999'990U) << "the last datagram";
}

TEST_F(UdpConversations, BegunAgainAndAgainInOneSecondAreAsMany)
{
    assembler->on_event(arrives());
    clock.advance(1ms);
    auto other = arrives();
    other.subject.pid = 200;
    assembler->on_event(other);
    clock.advance(1ms);
    assembler->on_event(arrives());
    ASSERT_EQ(records.size(), 5U);
    EXPECT_EQ(records[1].event(), Record::CLOSE);
    EXPECT_EQ(records[2].process().pid(), 200U);
    EXPECT_NE(records[2].flow_id(), records[0].flow_id());
    EXPECT_NE(records[4].flow_id(), records[0].flow_id());
    EXPECT_NE(records[4].flow_id(), records[2].flow_id());
}

TEST_F(UdpConversations, ASecondFirstDatagramEndsTheFormerConversation)
{
    assembler->on_event(arrives());
    clock.advance(2min);
    assembler->on_event(arrives());
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(records[1].event(), Record::CLOSE);
    EXPECT_EQ(records[2].event(), Record::OPEN);
    EXPECT_EQ(assembler->open_flows(), 1U);
}

} // namespace
} // namespace bulkhead::agent
