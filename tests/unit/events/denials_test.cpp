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
    // From db, through this host, to somewhere else.
    [[nodiscard]] bh_event forwarded_denial(std::uint16_t port) const
    {
        auto denial = inbound_denial(50000);
        denial.direction = BH_FORWARDED;
        denial.local = address("10.0.0.2");
        denial.remote = address("10.9.9.9");
        denial.remote_port = port;
        return denial;
    }
    static constexpr std::uint32_t here = 4'026'531'840, elsewhere = 4'026'532'000; // network namespaces
    void know_where_the_host_is() const
    {
        HostIdentity host{"api-1", "agent-1", "boot-1", {{"role", "api"}}, {"shop-api"}, 5};
        host.netns = here;
        assembler->set_host(host);
    }
    // What the peer of the open outbound connection sends to it, once its socket is gone.
    [[nodiscard]] bh_event tail() const
    {
        auto denial = inbound_denial(40000);
        denial.remote_port = 5432;
        return denial;
    }
    [[nodiscard]] static bh_denial counted_denial(const bh_event& first, std::uint64_t count)
    {
        bh_denial denial{};
        denial.first = first;
        denial.count = count;
        denial.since_ns = first.time_ns + 100'000'000;
        denial.last_ns = first.time_ns + 800'000'000;
        return denial;
    }
    void report(const bh_denial& denial) { assembler->on_denials({&denial, 1}); }
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

TEST_F(Denials, OfLoopbackAreNamedByWhatIsSaidOfIt)
{
    auto denial = event(BH_EVENT_DENY);
    denial.verdict = denial.shadow_verdict = BH_DENIED;
    denial.reason = denial.shadow_reason = BH_REASON_DEFAULT;
    denial.remote = address("127.0.0.1");
    denial.loopback = BH_LOOPBACK_ADDRESS;
    assembler->on_event(denial);
    denial.remote = address("10.0.0.1"); // the host's own
    denial.loopback = BH_LOOPBACK_OWN;
    denial.remote_port = 9001;
    assembler->on_event(denial);
    ASSERT_EQ(records.size(), 2U);
    for (const auto& record : records) {
        EXPECT_EQ(record.rule(), "shop/default-loopback");
        EXPECT_EQ(record.reason(), Record::DEFAULT);
    }
    EXPECT_EQ(records[1].dst().ip(), ip("10.0.0.1"));
}

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

TEST_F(Denials, AttemptsOfOneKindHaveOneId)
{
    assembler->on_event(inbound_denial(6379));
    clock.advance(1us);
    assembler->on_event(inbound_denial(6379));
    assembler->on_event(inbound_denial(6380));
    auto another = inbound_denial(6379);
    another.subject.pid = 10;
    assembler->on_event(another);
    EXPECT_EQ(records.at(0).flow_id(), records.at(1).flow_id());
    EXPECT_NE(records.at(0).flow_id(), records.at(2).flow_id());
    EXPECT_NE(records.at(0).flow_id(), records.at(3).flow_id());
}

TEST_F(Denials, CountedAttemptsAreOneRecordWithTheirNumber)
{
    assembler->on_event(inbound_denial(6379));
    report(counted_denial(inbound_denial(6379), 41));
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].kind(), Record::VIOLATION);
    EXPECT_EQ(records[1].count(), 41U);
    EXPECT_EQ(records[1].duration_us(), 700'000U);
    EXPECT_EQ(records[1].flow_id(), records[0].flow_id());
    EXPECT_EQ(records[1].dst().port(), 6379U);
    EXPECT_EQ(records[1].rule(), "shop/default-inbound");
    EXPECT_EQ(counted("violations"), 42U);
}

TEST_F(Denials, SeveralPortsOfOnePeerNameThePeerAndTheDefault)
{
    auto scan = counted_denial(inbound_denial(6379), 60000);
    scan.first.several = BH_SEVERAL_PORTS;
    scan.lowest_port = 1;
    scan.highest_port = 65001;
    report(scan);
    scan.first.reason = scan.first.shadow_reason = BH_REASON_RULE;
    report(scan);
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[0].count(), 60000U);
    EXPECT_EQ(records[0].src().workload(), "db-1");
    EXPECT_EQ(records[0].dst().port(), 0U);
    EXPECT_EQ(records[0].src().port(), 0U);
    EXPECT_EQ(records[0].ports().lowest(), 1U);
    EXPECT_EQ(records[0].ports().highest(), 65001U);
    EXPECT_EQ(records[0].rule(), "shop/default-inbound");
    EXPECT_EQ(records[0].community_id(), "");
    EXPECT_FALSE(records[0].has_process());
    EXPECT_EQ(records[1].rule(), "") << "several ports may be several rules";
}

TEST_F(Denials, WhatFoundNoPlaceIsStillCounted)
{
    bh_denial rest{};
    rest.count = 5'000'000;
    rest.first.several = BH_SEVERAL_PEERS;
    rest.first.direction = BH_INBOUND;
    rest.first.protocol = IPPROTO_TCP;
    rest.first.verdict = BH_DENIED;
    report(rest);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].count(), 5'000'000U);
    EXPECT_EQ(records[0].verdict(), Record::DENIED);
    EXPECT_EQ(records[0].src().ip(), "");
    EXPECT_EQ(records[0].reason(), Record::REASON_UNSET);
    EXPECT_EQ(records[0].policy_version(), 0U);
}

TEST_F(Denials, AttemptsThatHideBehindATailAreToldWithoutIt)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    records.clear();
    report(counted_denial(tail(), 7));
    EXPECT_TRUE(records.empty());
    auto mixed = counted_denial(tail(), 7);
    mixed.elsewhere = 3;
    report(mixed);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].count(), 3U);
    EXPECT_EQ(records[0].src().port(), 0U) << "theirs is not known, only that it is another";
    EXPECT_EQ(counted("stray_segments"), 11U);
    EXPECT_EQ(counted("violations"), 3U);
}

TEST_F(Denials, AForwardedPacketHasTwoForeignEnds)
{
    assembler->on_event(forwarded_denial(445));
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].direction(), Record::FORWARDED);
    EXPECT_EQ(records[0].src().workload(), "db-1");
    EXPECT_EQ(records[0].dst().ip(), ip("10.9.9.9"));
    EXPECT_EQ(records[0].dst().workload(), "");
    EXPECT_EQ(records[0].dst().port(), 445U);
}

TEST_F(Denials, OfAForwardedPacketTheHalfThatRefusesIsNamed)
{
    assembler->on_event(forwarded_denial(445)); // nobody may come in by that port, and everybody may go out
    auto view = std::make_shared<PolicyView>(*api_view(2, 43));
    for (auto& rule : view->policy.rules)
        if (rule.id == "shop/web")
            rule.services = {{policy::Protocol::tcp, {80, 8080}}};
    view->policy.defaults[0][0] = {policy::Action::deny, "shop"};
    view->active = policy::lower(view->policy, policy::Plane::active, view->addresses).value();
    view->shadow = policy::lower(view->policy, policy::Plane::shadow, view->addresses).value();
    assembler->set_policy(view);
    auto denial = forwarded_denial(8080);
    denial.generation = 2;
    denial.shadow_reason = BH_REASON_RULE;
    assembler->on_event(denial);
    denial.shadow_reason = BH_REASON_DEFAULT; // by none of what is known of this policy
    assembler->on_event(denial);
    auto several = denial;
    several.several = BH_SEVERAL_PORTS;
    assembler->on_event(several);
    ASSERT_EQ(records.size(), 4U);
    EXPECT_EQ(records[0].rule(), "shop/default-inbound");
    EXPECT_EQ(records[0].shadow_rule(), "shop/default-inbound");
    EXPECT_EQ(records[1].rule(), "shop/default-outbound");
    EXPECT_EQ(records[1].shadow_rule(), "shop/no-8080");
    EXPECT_EQ(records[2].rule(), "shop/default-outbound");
    EXPECT_EQ(records[2].shadow_rule(), "");
    EXPECT_EQ(records[3].rule(), "") << "at one port the one half, at another the other";
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
    clock.advance(7h);
    assembler->tick({}, {});
    assembler->on_event(tail());
    report(counted_denial(tail(), 4));
    EXPECT_EQ(counted("stray_segments"), 7U) << "of a server that looks at its connection when it needs it";
    EXPECT_EQ(records.size(), 2U);
    clock.advance(1h);
    assembler->on_event(tail());
    EXPECT_EQ(records.size(), 3U);
}

TEST_F(Denials, WhatComesToALaterListenerIsNoTail)
{
    assembler->on_event(connect());
    assembler->on_event(established());
    assembler->on_event(close());
    auto listens = event(BH_EVENT_LISTEN, IPPROTO_TCP, BH_INBOUND);
    listens.local = address("0.0.0.0");
    listens.local_port = 40000;
    listens.subject.pid = 9;
    assembler->on_event(listens);
    clock.advance(59s);
    assembler->on_event(tail());
    EXPECT_EQ(counted("stray_segments"), 1U) << "it may have been sent before";
    clock.advance(2s);
    assembler->on_event(tail());
    report(counted_denial(tail(), 4));
    EXPECT_EQ(counted("stray_segments"), 1U);
    EXPECT_EQ(counted("violations"), 5U);
}

// Anybody may give himself the host's address in a namespace of his own, and an accomplice's, too.
TEST_F(Denials, AConnectionOfTheSameNameInAnotherNamespaceHasNoTailHere)
{
    know_where_the_host_is();
    auto opened = established(), closed = close();
    opened.netns = closed.netns = elsewhere;
    assembler->on_event(connect());
    assembler->on_event(opened);
    assembler->on_event(tail());
    EXPECT_EQ(counted("violations"), 1U) << "while it is open";
    assembler->on_event(closed);
    assembler->on_event(tail());
    EXPECT_EQ(counted("violations"), 2U) << "after its close";
    closed.cookie = 78;
    assembler->on_event(closed);
    assembler->on_event(tail());
    EXPECT_EQ(counted("violations"), 3U) << "one that was never answered";

    opened.netns = closed.netns = here;
    assembler->on_event(opened);
    assembler->on_event(tail());
    assembler->on_event(closed);
    assembler->on_event(tail());
    EXPECT_EQ(counted("stray_segments"), 2U);
    EXPECT_EQ(counted("violations"), 3U);
    opened.netns = elsewhere;
    auto of_container = tail();
    of_container.netns = elsewhere;
    assembler->on_event(opened);
    assembler->on_event(of_container);
    EXPECT_EQ(counted("stray_segments"), 3U);
    of_container.netns = elsewhere + 1;
    assembler->on_event(of_container);
    EXPECT_EQ(counted("violations"), 4U) << "a container's, by one that looks like it";
}

TEST_F(Denials, OfOneNameInTwoNamespacesAreTwoKinds)
{
    know_where_the_host_is();
    auto first = inbound_denial(22);
    first.netns = here;
    auto second = first;
    second.netns = elsewhere;
    for (const auto& denial : {first, second, first})
        assembler->on_event(denial);
    ASSERT_EQ(records.size(), 3U);
    EXPECT_NE(records[0].flow_id(), records[1].flow_id());
    EXPECT_EQ(records[0].flow_id(), records[2].flow_id());
}

TEST_F(Denials, AnAttemptHereIsNotOnesWhoListensElsewhere)
{
    know_where_the_host_is();
    auto listens = event(BH_EVENT_LISTEN, IPPROTO_TCP, BH_INBOUND);
    listens.local = address("0.0.0.0");
    listens.local_port = 8080;
    listens.netns = elsewhere;
    listens.subject.pid = 9;
    assembler->on_event(listens);
    auto attempt = event(BH_EVENT_DENY, IPPROTO_TCP, BH_INBOUND);
    attempt.verdict = BH_DENIED;
    attempt.cookie = 0;
    attempt.local_port = 8080;
    attempt.netns = here;
    assembler->on_event(attempt);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].process().pid(), 0U);
    attempt.netns = elsewhere;
    assembler->on_event(attempt);
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[1].process().pid(), 9U);
    listens.netns = here;
    listens.subject.pid = 10;
    assembler->on_event(listens);
    for (const auto netns : {here, elsewhere, elsewhere + 1}) {
        attempt.netns = netns;
        assembler->on_event(attempt);
    }
    ASSERT_EQ(records.size(), 5U);
    EXPECT_EQ(records[2].process().pid(), 10U);
    EXPECT_EQ(records[3].process().pid(), 9U);
    EXPECT_EQ(records[4].process().pid(), 0U) << "of two other namespaces one has a listener";
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
