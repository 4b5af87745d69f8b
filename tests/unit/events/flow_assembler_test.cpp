// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/events/assembler_fixture.h"

#include "common/net/community_id.h"

#include <netinet/tcp.h>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using v1::Record;

WalkedSocket walked(std::uint64_t cookie, std::uint8_t state = TCP_ESTABLISHED)
{
    WalkedSocket socket;
    socket.socket.cookie = cookie;
    socket.socket.protocol = IPPROTO_TCP;
    socket.socket.state = state;
    socket.socket.local = address("10.0.0.1");
    socket.socket.remote = address("10.0.0.2");
    socket.socket.local_port = 40000;
    socket.socket.remote_port = 5432;
    socket.socket.bytes_out = 500;
    socket.socket.bytes_in = 600;
    socket.owner.pid = 55;
    return socket;
}

TEST_F(Assembler, AnOutboundConnectionOpensWhenThePeerAnswers)
{
    assembler->on_event(connect());
    EXPECT_TRUE(records.empty());
    EXPECT_EQ(direction_of(established()), policy::Direction::outbound);
    clock.advance(3ms);
    assembler->on_event(established());
    ASSERT_EQ(records.size(), 1U);
    const auto& open = records[0];
    EXPECT_EQ(open.kind(), Record::FLOW);
    EXPECT_EQ(open.event(), Record::OPEN);
    EXPECT_EQ(open.direction(), Record::OUTBOUND);
    EXPECT_EQ(open.verdict(), Record::ALLOWED);
    EXPECT_EQ(open.shadow_verdict(), Record::ALLOWED);
    EXPECT_EQ(open.reason(), Record::RULE);
    EXPECT_EQ(open.rule(), "shop/api-to-db");
    EXPECT_EQ(open.policy_version(), 42U);
    EXPECT_EQ(open.process().exe(), "/bin/of-100");
    EXPECT_EQ(open.src().ip(), ip("10.0.0.1"));
    EXPECT_EQ(open.src().port(), 40000U);
    EXPECT_EQ(open.src().workload(), "api-1");
    EXPECT_EQ(open.src().segments(0), "shop-api");
    EXPECT_EQ(open.src().labels().at("role"), "api");
    EXPECT_EQ(open.src().identity(), 5U);
    EXPECT_EQ(open.dst().workload(), "db-1");
    EXPECT_EQ(open.dst().segments(0), "shop-db");
    EXPECT_EQ(open.dst().labels().at("role"), "db");
    EXPECT_EQ(open.dst().identity(), 7U);
    EXPECT_EQ(open.host(), "api-1");
    EXPECT_EQ(open.agent_id(), "agent-1");
    EXPECT_EQ(open.boot_id(), "boot-1");
    EXPECT_EQ(open.flow_id().size(), 16U);
    EXPECT_EQ(open.count(), 1U);
    EXPECT_EQ(open.community_id(),
              community_id_v1(6, *IpAddress::parse("10.0.0.1"), 40000, *IpAddress::parse("10.0.0.2"), 5432));
    EXPECT_EQ(open.time_us(), 1'700'000'000'003'000);
    EXPECT_FALSE(open.has_bytes_out());
    EXPECT_FALSE(open.has_duration_us());
    EXPECT_EQ(open.seq(), 0U);
}

TEST_F(Assembler, TheCloseHasTotalsAndTheSameNames)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    clock.advance(2s);
    assembler->on_event(close());
    ASSERT_EQ(records.size(), 2U);
    const auto& record = records[1];
    EXPECT_EQ(record.event(), Record::CLOSE);
    EXPECT_EQ(record.flow_id(), records[0].flow_id());
    EXPECT_EQ(record.process().exe(), "/bin/of-100");
    EXPECT_EQ(record.rule(), "shop/api-to-db");
    EXPECT_EQ(record.bytes_out(), 1000U);
    EXPECT_EQ(record.bytes_in(), 2000U);
    EXPECT_EQ(record.packets_out(), 10U);
    EXPECT_EQ(record.packets_in(), 20U);
    EXPECT_EQ(record.duration_us(), 2'000'000U);
    EXPECT_EQ(record.tcp().state(), "fin-wait-1");
    EXPECT_EQ(record.tcp().rtt_us(), 300U);
    EXPECT_EQ(record.tcp().retransmits(), 1U);
    EXPECT_EQ(assembler->open_flows(), 0U);
    EXPECT_FALSE(direction_of(established()));
}

TEST_F(Assembler, AConnectWithoutAnswerIsNoFlow)
{
    assembler->on_event(connect());
    clock.advance(2min + 1s);
    tick();
    EXPECT_TRUE(records.empty());
    EXPECT_EQ(counted("connects_unanswered"), 1U);
    EXPECT_FALSE(direction_of(established()));
}

TEST_F(Assembler, AnInboundConnectionNamesTheListener)
{
    auto listen = event(BH_EVENT_LISTEN, IPPROTO_TCP, BH_INBOUND);
    listen.local = address("::");
    listen.subject.pid = 9;
    assembler->on_event(listen);
    assembler->on_event(event(BH_EVENT_ESTABLISHED, IPPROTO_TCP, BH_INBOUND)); // without a subject
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].direction(), Record::INBOUND);
    EXPECT_EQ(records[0].process().pid(), 9U);
    EXPECT_EQ(records[0].rule(), "shop/web");
    EXPECT_EQ(records[0].src().workload(), "db-1");
    EXPECT_EQ(records[0].dst().workload(), "api-1");
    EXPECT_EQ(records[0].dst().port(), 80U);
    EXPECT_EQ(direction_of(established()), policy::Direction::inbound);
}

TEST_F(Assembler, TheEventsOwnSubjectComesFirst)
{
    auto inbound = event(BH_EVENT_ESTABLISHED, IPPROTO_TCP, BH_INBOUND);
    inbound.subject.pid = 11;
    assembler->on_event(inbound);
    EXPECT_EQ(records.at(0).process().pid(), 11U);
}

TEST_F(Assembler, AListenerThatWentIsNamedNoMore)
{
    auto listen = event(BH_EVENT_LISTEN, IPPROTO_TCP, BH_INBOUND);
    listen.local = address("0.0.0.0");
    listen.subject.pid = 9;
    assembler->on_event(listen);
    listen.type = BH_EVENT_UNLISTEN;
    assembler->on_event(listen);
    assembler->on_event(event(BH_EVENT_ESTABLISHED, IPPROTO_TCP, BH_INBOUND));
    EXPECT_FALSE(records.at(0).has_process());
}

TEST_F(Assembler, AGuessedVerdictIsNotRecorded)
{
    auto inbound = event(BH_EVENT_ESTABLISHED, IPPROTO_TCP, BH_INBOUND);
    inbound.guessed = 1;
    inbound.shadow_verdict = BH_DENIED;
    assembler->on_event(inbound);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].rule(), "");
    EXPECT_NE(records[0].shadow_verdict(), Record::DENIED);
}

TEST_F(Assembler, AnAcceptedConnectionIsNeverCalledDenied)
{
    auto inbound =
        event(BH_EVENT_ESTABLISHED, IPPROTO_TCP, BH_INBOUND); // described after a switch that would refuse it
    inbound.verdict = BH_DENIED;
    inbound.reason = BH_REASON_DEFAULT;
    assembler->on_event(inbound);
    EXPECT_EQ(records.at(0).verdict(), Record::ALLOWED);
    EXPECT_EQ(records.at(0).rule(), "");
    EXPECT_EQ(records.at(0).reason(), Record::REASON_UNSET);
}

TEST_F(Assembler, ACloseWithoutAnOpenTellsWhatIsKnown)
{
    assembler->on_event(close());
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].event(), Record::CLOSE);
    EXPECT_EQ(records[0].direction(), Record::OUTBOUND);
    EXPECT_EQ(records[0].bytes_in(), 2000U);
    EXPECT_FALSE(records[0].has_duration_us());

    auto listening = walked(3, TCP_LISTEN);
    listening.socket.local = address("::");
    listening.socket.local_port = 40000;
    assembler->on_walk(std::vector{listening});
    assembler->on_event(close());
    EXPECT_EQ(records[1].direction(), Record::INBOUND);
    EXPECT_EQ(records[1].process().pid(), 55U);
}

TEST_F(Assembler, TheIdOutlivesTheAgent)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    assembler = make();
    assembler->set_host({"api-1", "agent-1", "boot-1", {}, {}, 0});
    assembler->on_event(close());
    EXPECT_EQ(records[1].flow_id(), records[0].flow_id());
    assembler = make();
    assembler->set_host({"api-1", "agent-1", "boot-2", {}, {}, 0}); // cookies begin anew
    assembler->on_event(close());
    EXPECT_NE(records[2].flow_id(), records[0].flow_id());
}

TEST_F(Assembler, AnUnknownGenerationHasNoRule)
{
    auto early = connect();
    early.generation = 9;
    assembler->on_event(early);
    assembler->on_event(established());
    EXPECT_EQ(records.at(0).rule(), "");
    EXPECT_EQ(records.at(0).reason(), Record::RULE);
    EXPECT_EQ(records.at(0).policy_version(), 0U);
}

TEST_F(Assembler, TheLastFourGenerationsAreKept)
{
    for (std::uint32_t generation = 2; generation <= 4; ++generation)
        assembler->set_policy(api_view(generation, 40 + generation));
    assembler->on_event(connect());
    assembler->on_event(established());
    EXPECT_EQ(records.at(0).policy_version(), 42U);
    assembler->set_policy(api_view(5, 45));
    auto second = connect();
    second.cookie = 78;
    assembler->on_event(second);
    auto answer = established();
    answer.cookie = 78;
    assembler->on_event(answer);
    EXPECT_EQ(records.at(1).policy_version(), 0U);
}

// TCP_FASTOPEN_CONNECT: connect(2) sends nothing, and the first write(2) may come hours later.
TEST_F(Assembler, ACallThatAWalkShowsIsNotForgotten)
{
    assembler->on_event(connect());
    auto calling = walked(77);
    calling.socket.state = TCP_SYN_SENT;
    for (int i = 0; i < 10; ++i) {
        clock.advance(1min);
        assembler->on_walk(std::vector{calling});
        tick();
    }
    assembler->on_event(established());
    ASSERT_EQ(records.size(), 1U);
    EXPECT_FALSE(records[0].process().exe().empty());
}

TEST_F(Assembler, ALongFlowIsUpdatedWithWhatAWalkShows)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    EXPECT_FALSE(assembler->wants_walk());
    clock.advance(5min);
    EXPECT_TRUE(assembler->wants_walk());
    assembler->on_walk(std::vector{walked(77)});
    tick();
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].event(), Record::UPDATE);
    EXPECT_EQ(records[1].bytes_out(), 500U);
    EXPECT_EQ(records[1].duration_us(), 300'000'000U);
    EXPECT_FALSE(assembler->wants_walk());
    clock.advance(4min);
    tick();
    EXPECT_EQ(records.size(), 2U);
}

TEST_F(Assembler, AFlowWhoseCloseWasLostEndsByTheWalk)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    assembler->on_walk(std::vector{walked(77)});
    assembler->on_walk({});
    clock.advance(11s);
    tick();
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].event(), Record::CLOSE);
    EXPECT_EQ(records[1].bytes_in(), 600U);
    EXPECT_FALSE(records[1].has_tcp());
}

TEST_F(Assembler, AFlowThatNoWalkReachesGoesOn) // of another network namespace
{
    assembler->on_event(connect());
    assembler->on_event(established());
    assembler->on_walk({});
    clock.advance(1min);
    tick();
    EXPECT_EQ(records.size(), 1U);
}

TEST_F(Assembler, ACutSessionsCloseNamesThePolicyThatCutIt)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    bh_judge_request verdict{};
    verdict.remote = address("10.0.0.2");
    verdict.port = 9999;
    verdict.protocol = IPPROTO_TCP;
    verdict.direction = BH_INBOUND;
    verdict.verdict = BH_DENIED;
    verdict.reason = BH_REASON_DEFAULT;
    verdict.generation = 1;
    verdict.classes.word[0] = 1;
    assembler->on_cut(walked(77).socket, policy::Direction::outbound, verdict, {});
    EXPECT_EQ(records.size(), 1U);
    assembler->on_event(close());
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].event(), Record::CLOSE);
    EXPECT_EQ(records[1].verdict(), Record::DENIED);
    EXPECT_EQ(records[1].rule(), "shop/default-inbound");
    EXPECT_EQ(records[1].bytes_out(), 1000U);
    EXPECT_EQ(records[1].process().pid(), 100U);
}

TEST_F(Assembler, AFlowToAnOwnAddressIsNamedByARuleAboutLoopback)
{
    auto own = connect();
    own.remote = address("10.0.0.1");
    own.remote_port = 9000;
    own.loopback = BH_LOOPBACK_OWN;
    assembler->on_event(own);
    auto answered = established();
    answered.remote = own.remote;
    answered.remote_port = 9000;
    assembler->on_event(answered);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].rule(), "shop/zz-itself");
    EXPECT_EQ(records[0].dst().ip(), ip("10.0.0.1"));
}

TEST_F(Assembler, ACutSessionOlderThanTheAgentIsReportedWithoutAClose)
{
    bh_judge_request verdict{};
    verdict.verdict = BH_DENIED;
    verdict.reason = BH_REASON_DEFAULT;
    bh_subject owner{};
    owner.pid = 55;
    assembler->on_cut(walked(77).socket, policy::Direction::inbound, verdict, owner);
    clock.advance(11s);
    tick();
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].event(), Record::CLOSE);
    EXPECT_EQ(records[0].verdict(), Record::DENIED);
    EXPECT_EQ(records[0].direction(), Record::INBOUND);
    EXPECT_EQ(records[0].bytes_out(), 500U);
    EXPECT_EQ(records[0].process().pid(), 55U);
}

TEST_F(Assembler, EachNewLossIsOneGap)
{
    assembler->set_loss_baseline({{"flow_lost", 3}});
    counters = {{"flow_lost", 3}, {"deny_lost", 0}, {"flow_events", 1000}};
    tick();
    EXPECT_TRUE(records.empty());
    counters = {{"flow_lost", 5}, {"deny_lost", 4}, {"flow_events", 2000}};
    tick();
    tick();
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].kind(), Record::GAP);
    EXPECT_EQ(records[0].lost().count(), 6U);
    EXPECT_EQ(records[0].lost().where(), "kernel");
    EXPECT_EQ(records[0].host(), "api-1");
    counters = {{"flow_lost", 1}, {"deny_lost", 4}}; // maps made anew
    tick();
    EXPECT_EQ(records.at(1).lost().count(), 1U);
}

TEST_F(Assembler, AFullTableIsCountedAndReported)
{
    assembler = make(1);
    for (const std::uint64_t cookie : {1, 2, 3}) {
        auto inbound = event(BH_EVENT_ESTABLISHED, IPPROTO_TCP, BH_INBOUND);
        inbound.cookie = cookie;
        inbound.remote_port = static_cast<std::uint16_t>(cookie);
        assembler->on_event(inbound);
    }
    EXPECT_EQ(records.size(), 3U); // the opens are told all the same
    EXPECT_EQ(assembler->open_flows(), 1U);
    tick();
    tick();
    ASSERT_EQ(records.size(), 4U);
    EXPECT_EQ(records[3].lost().where(), "agent");
    EXPECT_EQ(records[3].lost().count(), 2U);
}

TEST_F(Assembler, AsksForAProcessOnceASecond)
{
    for (std::uint64_t i = 0; i < 100; ++i) {
        auto next = connect();
        next.cookie = i + 1;
        assembler->on_event(next);
    }
    EXPECT_EQ(processes.questions, 1);
    clock.advance(1s);
    assembler->on_event(connect());
    EXPECT_EQ(processes.questions, 2);
}

TEST_F(Assembler, FollowsTheWallClockWhenItIsSet)
{
    clock.step_wall(1h);
    tick();
    assembler->on_event(established());
    EXPECT_EQ(records.at(0).time_us(), 1'700'003'600'000'000);
}

TEST_F(Assembler, IPv6IsWrittenAsSuch)
{
    auto inbound = event(BH_EVENT_ESTABLISHED, IPPROTO_TCP, BH_INBOUND);
    inbound.local = address("2001:db8::1");
    inbound.remote = address("2001:db8::2");
    assembler->on_event(inbound);
    EXPECT_EQ(records.at(0).src().ip(), ip("2001:db8::2"));
    EXPECT_EQ(records.at(0).src().ip().size(), 16U);
}

TEST_F(Assembler, AReusedSocketEndsItsEarlierFlow)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    assembler->on_event(connect());
    assembler->on_event(established());
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(records[1].event(), Record::CLOSE);
    EXPECT_EQ(records[2].event(), Record::OPEN);
    EXPECT_EQ(assembler->open_flows(), 1U);
}

} // namespace
} // namespace bulkhead::agent
