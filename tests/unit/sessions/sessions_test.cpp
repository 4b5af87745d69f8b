// SPDX-License-Identifier: Apache-2.0
#include "agent/sessions/late_session.h"
#include "sessions_fixture.h"

namespace bulkhead::agent {
namespace {

TEST_F(Sessions, KeepReportsAndLeaves)
{
    datapath.sockets = {make({}), make({.cookie = 2, .remote_port = 80})};
    const auto forbidden = after(Kind::keep);
    ASSERT_EQ(forbidden.size(), 1U);
    EXPECT_EQ(forbidden[0].socket.socket.cookie, 1U);
    EXPECT_FALSE(forbidden[0].destroyed);
    EXPECT_EQ(forbidden[0].verdict.verdict, BH_DENIED);
    clock.advance(1h);
    EXPECT_TRUE(keeper.tick()->empty());
    EXPECT_TRUE(datapath.destroyed.empty());
    EXPECT_EQ(datapath.adoptions, 1U);
}

TEST_F(Sessions, CutDestroysDeniedOnesOnly)
{
    datapath.sockets = {make({}), make({.cookie = 2, .remote_port = 80})};
    const auto forbidden = after(Kind::cut);
    ASSERT_EQ(forbidden.size(), 1U);
    EXPECT_TRUE(forbidden[0].destroyed);
    EXPECT_EQ(datapath.destroyed, std::vector<std::uint64_t>{1});
}

// Which anybody can fill, and which judging does not need.
TEST_F(Sessions, CutDestroysAlsoWhenTheListenerTableIsFull)
{
    datapath.listener_table_is_full = true;
    datapath.sockets = {make({}), make({.cookie = 2, .remote_port = 80})};
    EXPECT_EQ(after(Kind::cut).size(), 1U);
    EXPECT_EQ(datapath.destroyed, std::vector<std::uint64_t>{1});
}

TEST_F(Sessions, ListenersThatCouldNotBeToldAreToldASecondLaterAndThenNotEverySecond)
{
    datapath.listener_table_is_full = true;
    EXPECT_TRUE(after(Kind::keep).empty());
    for (int second = 0; second < 5; ++second) {
        clock.advance(1s);
        EXPECT_TRUE(keeper.tick());
    }
    EXPECT_EQ(datapath.adoptions, 2U);
}

TEST_F(Sessions, CutFindsWhatWasAtTheDoorDuringTheSwitch)
{
    EXPECT_TRUE(after(Kind::cut).empty());
    datapath.sockets = {make({})};
    EXPECT_TRUE(keeper.tick()->empty());
    clock.advance(1s);
    EXPECT_EQ(keeper.tick()->size(), 1U);
    datapath.sockets = {make({.cookie = 3})}; // later ones pass the new policy's door
    clock.advance(1h);
    EXPECT_TRUE(keeper.tick()->empty());
}

TEST_F(Sessions, DrainWaitsAndAsksAgain)
{
    datapath.sockets = {make({.cookie = 1}), make({.cookie = 2, .local_port = 40001})};
    EXPECT_FALSE(after(Kind::drain, 60s).at(0).destroyed);
    clock.advance(59s);
    EXPECT_TRUE(keeper.tick()->empty());
    datapath.denies = [](const auto& request) { return request.subject.pid == 100; };
    datapath.sockets[1].owner.pid = 101; // allowed by now
    clock.advance(1s);
    const auto destroyed = keeper.tick().value();
    ASSERT_EQ(destroyed.size(), 1U);
    EXPECT_EQ(destroyed[0].socket.socket.cookie, 1U);
    EXPECT_EQ(datapath.destroyed, std::vector<std::uint64_t>{1});
}

TEST_F(Sessions, ASecondSwitchDoesNotProlongADrain)
{
    datapath.sockets = {make({})};
    after(Kind::drain, 60s);
    clock.advance(50s);
    after(Kind::drain, 60s);
    clock.advance(10s);
    EXPECT_EQ(keeper.tick()->size(), 1U);
}

TEST_F(Sessions, AnAllowedPauseBeginsADrainAnew)
{
    datapath.sockets = {make({})};
    after(Kind::drain, 60s);
    clock.advance(50s);
    const auto denies = std::exchange(datapath.denies, [](const auto&) { return false; });
    after(Kind::drain, 60s);
    datapath.denies = denies;
    after(Kind::drain, 60s);
    clock.advance(59s);
    EXPECT_TRUE(keeper.tick()->empty());
    clock.advance(1s);
    EXPECT_EQ(keeper.tick()->size(), 1U);
}

TEST_F(Sessions, KeepEndsADrain)
{
    datapath.sockets = {make({})};
    after(Kind::drain, 60s);
    after(Kind::keep);
    clock.advance(1h);
    EXPECT_TRUE(keeper.tick()->empty());
    EXPECT_TRUE(datapath.destroyed.empty());
}

TEST_F(Sessions, TriesAgainWhatCouldNotBeDestroyed)
{
    datapath.sockets = {make({})};
    datapath.undestroyable = {1};
    EXPECT_FALSE(after(Kind::cut).at(0).destroyed);
    datapath.undestroyable.clear();
    clock.advance(5s);
    EXPECT_EQ(keeper.tick()->size(), 1U);
}

// A simultaneous open is told of as an accepted connection; the kernel knows that the socket has called.
TEST_F(Sessions, WhoHasCalledHasBegunWhateverWasRecorded)
{
    recorded = {{1, Direction::inbound}};
    datapath.sockets = {make({}), make({.cookie = 2, .state = TCP_SYN_RECV})};
    for (const auto& session : after(Kind::keep))
        EXPECT_EQ(session.direction, Direction::outbound);
}

TEST_F(Sessions, KeepKeepsNoCallThatNobodyHasAnswered)
{
    datapath.sockets = {make({}), make({.cookie = 2, .state = TCP_SYN_SENT}),
                        make({.cookie = 3, .remote_port = 80, .state = TCP_SYN_SENT})}; // allowed
    EXPECT_EQ(after(Kind::keep).size(), 2U);
    EXPECT_EQ(datapath.destroyed, std::vector<std::uint64_t>{2});
}

TEST_F(Sessions, LooksAgainForWhatWasNotFound)
{
    datapath.sockets = {make({})};
    datapath.hidden_by = {{1, 99}};
    EXPECT_FALSE(after(Kind::cut).at(0).destroyed);
    datapath.hidden_by.clear();
    clock.advance(5s);
    EXPECT_EQ(keeper.tick()->size(), 1U);
}

TEST_F(Sessions, JudgesInboundAtTheListenersPortAndOwner)
{
    datapath.sockets = {
        listener("::", 5432, 7),
        make({.cookie = 5, .local_port = 5432, .remote_port = 50000, .pid = 8, .opened = BH_OPENED_UNKNOWN})};
    const auto forbidden = after(Kind::keep);
    ASSERT_EQ(forbidden.size(), 1U);
    EXPECT_EQ(forbidden[0].direction, Direction::inbound);
    EXPECT_EQ(forbidden[0].verdict.port, 5432);
    EXPECT_EQ(forbidden[0].verdict.subject.pid, 7U);
    EXPECT_EQ(datapath.judged.size(), 1U); // the listener is no session
}

TEST_F(Sessions, TheRecordedDirectionWins)
{
    recorded[5] = Direction::inbound;
    datapath.sockets = {make({.cookie = 5,
                              .local_port = 5432,
                              .remote_port = 50000,
                              .pid = 8,
                              .opened = BH_OPENED_UNKNOWN})}; // listener is gone
    const auto forbidden = after(Kind::keep);
    ASSERT_EQ(forbidden.size(), 1U);
    EXPECT_EQ(forbidden[0].direction, Direction::inbound);
    EXPECT_EQ(forbidden[0].verdict.subject.pid, 8U);
}

TEST_F(Sessions, JudgesOnlySessionsInScope)
{
    datapath.outside = {9};
    datapath.sockets = {
        make({.cookie = 3, .cgroup = 9}),
        make({.cookie = 4, .state = TCP_TIME_WAIT}),
        make({.cookie = 5, .state = TCP_LAST_ACK}),
        make({.cookie = 6, .state = TCP_CLOSING}),
        make({.cookie = 7, .state = TCP_CLOSE, .protocol = IPPROTO_UDP}),
        make({.cookie = 8, .protocol = IPPROTO_ICMP}),
    };
    EXPECT_TRUE(after(Kind::cut).empty());
    EXPECT_TRUE(datapath.judged.empty());
}

TEST_F(Sessions, DatagramsThatAnswerAreJudgedAsWhatCameIn)
{
    const auto datagrams = [](std::uint64_t cookie, std::uint16_t local, std::uint16_t remote, bh_opened opened) {
        return make({.cookie = cookie,
                     .local_port = local,
                     .remote_port = remote,
                     .protocol = IPPROTO_UDP,
                     .opened = static_cast<std::uint8_t>(opened)});
    };
    auto hears = datagrams(9, 443, 0, BH_OPENED_BY_CONNECT);
    hears.socket.state = TCP_CLOSE;
    hears.owner.pid = 7;
    recorded = {{1, Direction::outbound}, {4, Direction::inbound}, {5, Direction::inbound}, {6, Direction::inbound}};
    datapath.sockets = {hears,
                        datagrams(1, 443, 50000, BH_OPENED_BY_PEER),
                        datagrams(2, 80, 443, BH_OPENED_BY_PEER),
                        datagrams(3, 443, 50000, BH_OPENED_UNKNOWN),
                        datagrams(4, 443, 50001, BH_OPENED_UNKNOWN),
                        datagrams(5, 81, 443, BH_OPENED_BY_CONNECT),
                        datagrams(6, 82, 443, BH_OPENED_UNKNOWN)};
    EXPECT_EQ(after(Kind::cut).size(), 3U);
    EXPECT_EQ(std::set(datapath.destroyed.begin(), datapath.destroyed.end()), (std::set<std::uint64_t>{1, 4, 5}));
    for (const auto& request : datapath.judged)
        EXPECT_EQ(request.subject.pid, 100U) << "not who else hears at its port";
}

TEST_F(Sessions, LoopbackIsJudgedAtBothEndsAndInItsNamespace)
{
    datapath.sockets = {listener("127.0.0.1", 5432),
                        make({.cookie = 1, .local = "127.0.0.1", .remote = "127.0.0.1", .remote_port = 5432}),
                        make({.cookie = 2,
                              .local = "127.0.0.1",
                              .local_port = 5432,
                              .remote = "127.0.0.1",
                              .opened = BH_OPENED_UNKNOWN}),
                        make({.cookie = 3, .local = "::1", .remote = "::1", .remote_port = 80, .netns = 9})};
    const auto forbidden = after(Kind::cut);
    ASSERT_EQ(forbidden.size(), 2U);
    EXPECT_EQ(forbidden[0].direction, Direction::outbound);
    EXPECT_EQ(forbidden[1].direction, Direction::inbound);
    EXPECT_EQ(datapath.judged.at(2).netns, 9U);
}

TEST_F(Sessions, OnLoopbackADirectionThatNobodyKnowsIsNotTakenForTheWorse)
{
    datapath.denies = [](const auto& request) { return request.port != 8080; };
    const SocketSpec orphan{.local = "127.0.0.1",
                            .local_port = 8080,
                            .remote = "127.0.0.1",
                            .remote_port = 50000,
                            .opened = BH_OPENED_UNKNOWN};
    datapath.sockets = {make(orphan)}; // its listener is gone
    EXPECT_TRUE(after(Kind::cut).empty());
    datapath.sockets.push_back(listener("127.0.0.1", 50000)); // no: it is a client
    EXPECT_EQ(after(Kind::cut).size(), 1U);
    recorded[2] = Direction::outbound;
    auto known = orphan;
    known.cookie = 2;
    datapath.sockets = {make(known)};
    EXPECT_EQ(after(Kind::cut).size(), 1U);
}

// The agent was started anew, so nothing is recorded, and what was accepted has outlived its listener.
TEST_F(Sessions, WhatMayHaveBeenOpenedEitherWayIsCutOnlyIfBothAreDenied)
{
    datapath.denies = [](const auto& request) {
        return request.direction == BH_OUTBOUND ? request.port != 443 : request.port != 22;
    };
    SocketSpec spec{.local_port = 22, .remote_port = 50000, .pid = 8, .opened = BH_OPENED_UNKNOWN};
    datapath.sockets = {make(spec)};
    EXPECT_TRUE(after(Kind::cut).empty()) << "may be inbound";
    EXPECT_EQ(datapath.judged.back().subject.pid, 8U);
    spec = {.cookie = 2, .local_port = 40000, .remote_port = 443, .opened = BH_OPENED_UNKNOWN};
    datapath.sockets = {make(spec)};
    EXPECT_TRUE(after(Kind::cut).empty()) << "may be outbound";
    spec = {.cookie = 3, .local_port = 23, .remote_port = 50000, .opened = BH_OPENED_UNKNOWN};
    datapath.sockets = {make(spec)};
    EXPECT_EQ(after(Kind::cut).size(), 1U);
}

TEST(LateSession, IsWhatIsKnownToBeDenied)
{
    bh_event event{};
    event.type = BH_EVENT_ESTABLISHED;
    event.direction = BH_INBOUND;
    event.verdict = BH_DENIED;
    EXPECT_TRUE(is_late(event));
    event.guessed = 1;
    EXPECT_FALSE(is_late(event));
}

TEST_F(Sessions, ItsPortTellsWhatWasOpenedByConnect)
{
    datapath.denies = [](const auto& request) { return request.direction == BH_OUTBOUND; };
    datapath.sockets = {make({}), listener("0.0.0.0", 80),
                        make({.cookie = 2, .local_port = 80, .remote_port = 50000})}; // bound to it on purpose
    EXPECT_EQ(after(Kind::cut).size(), 2U);
}

TEST_F(Sessions, JudgesEveryStateThatCarriesData)
{
    std::uint64_t cookie = 0;
    for (const int state : {TCP_ESTABLISHED, TCP_SYN_SENT, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_CLOSE_WAIT})
        datapath.sockets.push_back(make({.cookie = ++cookie, .state = static_cast<std::uint8_t>(state)}));
    datapath.sockets.push_back(make({.cookie = ++cookie, .protocol = IPPROTO_UDP}));
    for (const int state : {int{TCP_SYN_RECV}, 12})
        datapath.sockets.push_back(
            make({.cookie = ++cookie, .local_port = 5432, .state = static_cast<std::uint8_t>(state)}));
    EXPECT_EQ(after(Kind::cut).size(), cookie);
}

TEST_F(Sessions, AnOrphanIsJudgedByItsSocket)
{
    datapath.sockets = {make({.state = TCP_FIN_WAIT2, .pid = 0})};
    after(Kind::keep);
    ASSERT_EQ(datapath.judged.size(), 1U);
    EXPECT_EQ(datapath.judged[0].subject.cgroup_id, 7U);
    EXPECT_EQ(datapath.judged[0].subject.uid, 33U);
}

TEST_F(Sessions, ForgetsDeniedConversationsAsSessionsSays)
{
    const bh_udp_flow_key denied_out{address("10.0.0.2"), 443, 5000, 0};
    const bh_udp_flow_key allowed_in{address("10.0.0.2"), 443, 53, 0}; // inbound is judged at the local port
    bh_udp_flow outbound{};
    bh_udp_flow inbound{};
    inbound.direction = BH_INBOUND;
    datapath.flows = {{denied_out, outbound}, {allowed_in, inbound}};
    after(Kind::keep);
    EXPECT_TRUE(datapath.forgotten.empty());
    after(Kind::drain, 10s);
    EXPECT_TRUE(datapath.forgotten.empty());
    clock.advance(10s);
    ASSERT_TRUE(keeper.tick());
    ASSERT_EQ(datapath.forgotten.size(), 1U);
    EXPECT_EQ(datapath.forgotten[0].local_port, 5000);
    after(Kind::cut);
    EXPECT_EQ(datapath.forgotten.size(), 2U);
}

TEST_F(Sessions, FiftyThousandCostOneWalkAndOneQuestionACgroup)
{
    datapath.sockets.push_back(listener("::", 5432));
    for (std::uint32_t i = 0; i < 50000; ++i)
        datapath.sockets.push_back(make({.cookie = 10000 + i,
                                         .local_port = 5432,
                                         .remote_port = static_cast<std::uint16_t>(i),
                                         .cgroup = 7 + i % 3,
                                         .opened = BH_OPENED_UNKNOWN}));
    EXPECT_EQ(after(Kind::cut).size(), 50000U);
    EXPECT_EQ(datapath.walks, 1U);
    EXPECT_EQ(datapath.scope_questions, 3U);
}

TEST_F(Sessions, WhatANewNamespaceAcceptedIsCutWhateverIsToBecomeOfOldSessions)
{
    EXPECT_TRUE(after(Kind::keep).empty());
    recorded = {{1, Direction::inbound},
                {2, Direction::inbound},
                {3, Direction::outbound},
                {4, Direction::inbound},
                {5, Direction::inbound}};
    datapath.sockets = {make({.cookie = 1, .local_port = 443, .netns = 8, .opened = BH_OPENED_UNKNOWN}),
                        make({.cookie = 2, .local_port = 80, .netns = 8, .opened = BH_OPENED_UNKNOWN}),
                        make({.cookie = 3, .remote_port = 443, .netns = 8}),
                        make({.cookie = 4, .local_port = 443, .netns = 9, .opened = BH_OPENED_UNKNOWN})};
    const std::vector<std::uint32_t> namespaces{8};
    const auto ended = keeper.came(namespaces).value();
    ASSERT_EQ(ended.size(), 1U) << "denied, inbound, there";
    EXPECT_EQ(ended[0].socket.socket.cookie, 1U);
    EXPECT_TRUE(ended[0].destroyed);

    datapath.sockets.push_back(
        make({.cookie = 5, .local_port = 443, .netns = 8, .opened = BH_OPENED_UNKNOWN})); // its handshake was under way
    datapath.undestroyable = {5};
    clock.advance(1s);
    EXPECT_TRUE(keeper.tick()->empty());
    datapath.undestroyable.clear();
    clock.advance(1s);
    EXPECT_EQ(keeper.tick()->size(), 1U) << "tried again";
    EXPECT_EQ(datapath.destroyed, (std::vector<std::uint64_t>{1, 5}));
    clock.advance(1h);
    const auto walks = datapath.walks;
    EXPECT_TRUE(keeper.tick()->empty());
    EXPECT_EQ(datapath.walks, walks) << "done with it";
}

// As on a host that starts containers all the time, or where a user wants it to look so.
TEST_F(Sessions, NewNamespacesWithoutEndDoNotKeepTheOldOnesNew)
{
    EXPECT_TRUE(after(Kind::keep).empty());
    const auto comes = [&](std::uint32_t netns) { return keeper.came(std::vector{netns}).value(); };
    EXPECT_TRUE(comes(1).empty());
    for (std::uint32_t netns = 2; netns < 10; ++netns) {
        clock.advance(900ms);
        EXPECT_TRUE(comes(netns).empty());
        EXPECT_TRUE(keeper.tick()->empty());
    }
    recorded = {{1, Direction::inbound}};
    datapath.sockets = {make({.cookie = 1, .local_port = 443, .netns = 1})};
    clock.advance(900ms);
    EXPECT_TRUE(comes(10).empty());
    EXPECT_TRUE(keeper.tick()->empty()) << "what a change forbids later is for `sessions:` to decide on";
    EXPECT_TRUE(datapath.destroyed.empty());
}

// Its end is in the ring as soon as it is destroyed, and read by another thread.
TEST_F(Sessions, WhatIsCutIsToldOfBeforeItEnds)
{
    std::vector<std::pair<std::uint64_t, std::size_t>> told; // cookie, how many were destroyed before
    SessionKeeper telling{datapath, clock, [](const bh_walked_socket&) { return std::nullopt; },
                          [&](const ForbiddenSession& session) {
                              told.emplace_back(session.socket.socket.cookie, datapath.destroyed.size());
                          }};
    datapath.sockets = {make({.cookie = 1, .remote_port = 443}), make({.cookie = 2, .remote_port = 443})};
    ASSERT_TRUE(telling.after_switch({Kind::cut, {}}));
    EXPECT_EQ(told, (std::vector<std::pair<std::uint64_t, std::size_t>>{{1, 0}, {2, 1}}));
    EXPECT_EQ(datapath.destroyed, (std::vector<std::uint64_t>{1, 2}));
    told.clear();
    ASSERT_TRUE(telling.after_switch({Kind::keep, {}}));
    EXPECT_TRUE(told.empty());
}

TEST_F(Sessions, ASessionThatCannotBeDestroyedKeepsNoOtherNamespaceNew)
{
    EXPECT_TRUE(after(Kind::keep).empty());
    recorded = {{1, Direction::inbound}, {2, Direction::inbound}};
    datapath.sockets = {make({.cookie = 1, .local_port = 443, .netns = 8, .opened = BH_OPENED_UNKNOWN})};
    datapath.undestroyable = {1};
    EXPECT_TRUE(keeper.came(std::vector<std::uint32_t>{8, 9}).value().empty());
    EXPECT_EQ(datapath.newcomers_judged, std::set<std::uint32_t>{9}) << "the other must be reached again";
    clock.advance(1s);
    EXPECT_TRUE(keeper.tick()->empty());
    datapath.sockets.push_back(make({.cookie = 2, .local_port = 443, .netns = 9, .opened = BH_OPENED_UNKNOWN}));
    clock.advance(1s);
    EXPECT_TRUE(keeper.tick()->empty()) << "it is not new any more";
    datapath.undestroyable.clear();
    clock.advance(1s);
    EXPECT_EQ(keeper.tick()->size(), 1U);
    EXPECT_EQ(datapath.destroyed, std::vector<std::uint64_t>{1});
    EXPECT_EQ(datapath.newcomers_judged, (std::set<std::uint32_t>{8, 9}));
}

} // namespace
} // namespace bulkhead::agent
