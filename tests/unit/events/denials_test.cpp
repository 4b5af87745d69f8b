// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/events/assembler_fixture.h"

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using v1::Record;

class Denials : public Assembler {
protected:
    [[nodiscard]] bh_event inbound_denial(std::uint16_t port) const
    {
        auto denial = event(BH_EVENT_DENY, IPPROTO_TCP, BH_INBOUND);
        denial.cookie = 0;
        denial.local_port = port;
        denial.verdict = denial.shadow_verdict = BH_DENIED;
        denial.reason = denial.shadow_reason = BH_REASON_DEFAULT;
        return denial;
    }
    // What the peer of the open outbound connection sends to it, once its socket is gone.
    [[nodiscard]] bh_event tail() const
    {
        auto denial = inbound_denial(40000);
        denial.remote_port = 5432;
        return denial;
    }
    [[nodiscard]] bh_event would_deny() const
    {
        auto denial = connect();
        denial.type = BH_EVENT_DENY;
        denial.remote_port = 8080;
        denial.verdict = BH_ALLOWED;
        denial.reason = BH_REASON_DEFAULT;
        denial.shadow_verdict = BH_DENIED;
        return denial;
    }
};

TEST_F(Denials, ARefusedArrivalIsAViolationAtOnce)
{
    auto listen = event(BH_EVENT_LISTEN, IPPROTO_TCP, BH_INBOUND);
    listen.local_port = 6379;
    listen.subject.pid = 9;
    assembler->on_event(listen);
    assembler->on_event(inbound_denial(6379));
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].kind(), Record::VIOLATION);
    EXPECT_EQ(records[0].event(), Record::DENY);
    EXPECT_EQ(records[0].verdict(), Record::DENIED);
    EXPECT_EQ(records[0].shadow_verdict(), Record::DENIED);
    EXPECT_EQ(records[0].reason(), Record::DEFAULT);
    EXPECT_EQ(records[0].rule(), "shop/default-inbound");
    EXPECT_EQ(records[0].direction(), Record::INBOUND);
    EXPECT_EQ(records[0].src().workload(), "db-1");
    EXPECT_EQ(records[0].dst().port(), 6379U);
    EXPECT_EQ(records[0].process().pid(), 9U);
    EXPECT_EQ(records[0].count(), 1U);
    EXPECT_NE(records[0].community_id(), "");
}

TEST_F(Denials, ARefusedDepartureNamesItsProcess)
{
    auto denial = connect(100);
    denial.type = BH_EVENT_DENY;
    denial.verdict = denial.shadow_verdict = BH_DENIED;
    assembler->on_event(denial);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].direction(), Record::OUTBOUND);
    EXPECT_EQ(records[0].process().pid(), 100U);
    EXPECT_EQ(records[0].rule(), ""); // the policy at hand would allow it: no rule is better than a wrong one
    EXPECT_EQ(records[0].src().ip(), "");
    EXPECT_EQ(records[0].community_id(), "");
}

TEST_F(Denials, WouldDenyNamesTheShadowPlanesRule)
{
    assembler->on_event(would_deny());
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].kind(), Record::VIOLATION);
    EXPECT_EQ(records[0].verdict(), Record::WOULD_DENY);
    EXPECT_EQ(records[0].reason(), Record::RULE);
    EXPECT_EQ(records[0].rule(), "shop/no-8080");
    EXPECT_EQ(records[0].shadow_rule(), "shop/no-8080");
    EXPECT_EQ(records[0].shadow_verdict(), Record::DENIED);
}

TEST_F(Denials, WouldDenyAndItsFlowHaveOneId)
{
    auto passed = would_deny();
    passed.type = BH_EVENT_CONNECT;
    assembler->on_event(passed);
    auto answer = established();
    answer.remote_port = 8080;
    assembler->on_event(answer);
    assembler->on_event(would_deny());
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[0].flow_id(), records[1].flow_id());
    EXPECT_EQ(records[0].verdict(), Record::ALLOWED);
    EXPECT_EQ(records[0].shadow_verdict(), Record::DENIED);
    EXPECT_EQ(records[0].rule(), "shop/default-outbound");
    EXPECT_EQ(records[0].shadow_rule(), "shop/no-8080");
}

TEST_F(Denials, AttemptsHaveIdsOfTheirOwn)
{
    assembler->on_event(inbound_denial(6379));
    clock.advance(1us);
    assembler->on_event(inbound_denial(6379));
    EXPECT_NE(records.at(0).flow_id(), records.at(1).flow_id());
}

TEST_F(Denials, TheTailOfAConnectionIsCountedNotReported)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    assembler->on_event(tail());
    assembler->on_event(close());
    clock.advance(59s);
    assembler->on_event(tail());
    EXPECT_EQ(records.size(), 2U);
    EXPECT_EQ(counted("stray_segments"), 2U);
    EXPECT_EQ(counted("violations"), 0U);
    clock.advance(2s);
    assembler->on_event(tail());
    EXPECT_EQ(records.size(), 3U);
}

TEST_F(Denials, OnlyTheExactEndsAreATail)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    assembler->on_event(close());
    records.clear();
    auto other_port = tail();
    other_port.local_port = 22;
    auto other_peer_port = tail();
    other_peer_port.remote_port = 5433;
    auto other_peer = tail();
    other_peer.remote = address("10.0.0.3");
    auto other_address = tail();
    other_address.local = address("10.0.0.9");
    auto udp = tail();
    udp.protocol = IPPROTO_UDP;
    for (const auto& attempt : {other_port, other_peer_port, other_peer, other_address, udp})
        assembler->on_event(attempt);
    EXPECT_EQ(records.size(), 5U);
    EXPECT_EQ(counted("stray_segments"), 0U);
}

TEST_F(Denials, AnInboundConnectionHasNoTail)
{
    assembler->on_event(event(BH_EVENT_ESTABLISHED, IPPROTO_TCP, BH_INBOUND));
    assembler->on_event(inbound_denial(80)); // same ends: whoever is cut tries again
    EXPECT_EQ(records.size(), 2U);
}

} // namespace
} // namespace bulkhead::agent
