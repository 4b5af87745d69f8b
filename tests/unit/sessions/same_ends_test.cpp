// SPDX-License-Identifier: Apache-2.0
// Sockets that share both ends (SO_REUSEADDR, SO_REUSEPORT): the kernel finds one of them.
#include "sessions_fixture.h"

#include <algorithm>
#include <numeric>
#include <random>

namespace bulkhead::agent {
namespace {

class SameEnds : public Sessions {
protected:
    static WalkedSocket datagrams(std::uint64_t cookie, std::uint16_t local_port = 40000)
    {
        return make({.cookie = cookie, .local_port = local_port, .protocol = IPPROTO_UDP});
    }
    // Each is hidden by the next one.
    void hide(const std::vector<std::uint64_t>& cookies)
    {
        for (std::size_t i = 0; i + 1 < cookies.size(); ++i)
            datapath.hidden_by[cookies[i]] = cookies[i + 1];
    }
    // The kernel takes some time for each search.
    class SlowDatapath final : public test::FakeDatapath {
    public:
        SlowDatapath(test::FakeClock& clock, std::chrono::nanoseconds time) : clock_(clock), time_(time) {}
        Result<std::uint64_t> find_socket(const bh_walked_socket& socket) override
        {
            clock_.advance(time_);
            return FakeDatapath::find_socket(socket);
        }

    private:
        test::FakeClock& clock_;
        std::chrono::nanoseconds time_;
    };

    std::vector<std::uint64_t> told;
    SessionKeeper::OnCut tell = [this](const ForbiddenSession& session) {
        told.push_back(session.socket.socket.cookie);
    };
    SessionKeeper telling{datapath, clock, [](const bh_walked_socket&) { return std::nullopt; }, tell};
};

TEST_F(SameEnds, AreDestroyedInWhateverOrderTheyAreFound)
{
    std::vector<std::uint64_t> cookies(300);
    std::iota(cookies.begin(), cookies.end(), 1);
    for (const auto cookie : cookies)
        datapath.sockets.push_back(datagrams(cookie));
    std::shuffle(cookies.begin(), cookies.end(), std::mt19937(1));
    hide(cookies);
    const auto forbidden = telling.after_switch({Kind::cut, {}}).value();
    EXPECT_TRUE(std::all_of(forbidden.begin(), forbidden.end(), [](const auto& one) { return one.destroyed; }));
    std::reverse(cookies.begin(), cookies.end());
    EXPECT_EQ(datapath.destroyed, cookies);
    EXPECT_EQ(told, cookies) << "of each once";
    EXPECT_EQ(datapath.searches, cookies.size());
}

TEST_F(SameEnds, WhatAnAllowedSocketHidesIsNotToldAsCut)
{
    datapath.denies = [](const auto& request) { return request.subject.pid != 7; };
    datapath.sockets = {datagrams(1), datagrams(2), datagrams(3), datagrams(4)};
    datapath.sockets[2].owner.pid = 7;
    hide({1, 2, 3, 4});
    const auto forbidden = telling.after_switch({Kind::cut, {}}).value();
    EXPECT_EQ(std::count_if(forbidden.begin(), forbidden.end(), [](const auto& one) { return one.destroyed; }), 1);
    EXPECT_EQ(datapath.destroyed, std::vector<std::uint64_t>{4});
    EXPECT_EQ(told, std::vector<std::uint64_t>{4});
    EXPECT_EQ(datapath.searches, 2U);

    std::erase_if(datapath.sockets, [](const auto& walked) { return walked.socket.cookie == 3; });
    datapath.hidden_by.erase(2);
    clock.advance(1s);
    EXPECT_EQ(telling.tick()->size(), 2U) << "looked at again";
    EXPECT_EQ(told, (std::vector<std::uint64_t>{4, 2, 1}));
}

TEST_F(SameEnds, OneThatCannotBeDestroyedHidesTheOthersForASecond)
{
    datapath.sockets = {datagrams(1), datagrams(2), datagrams(3), datagrams(4, 40001)};
    hide({1, 2, 3});
    datapath.undestroyable = {2};
    (void)telling.after_switch({Kind::cut, {}}).value();
    EXPECT_EQ(told, (std::vector<std::uint64_t>{4, 3, 2}));
    EXPECT_EQ(datapath.destroyed, (std::vector<std::uint64_t>{4, 3})) << "other ends are another matter";
    datapath.undestroyable.clear();
    EXPECT_TRUE(telling.tick()->empty());
    clock.advance(1s);
    EXPECT_EQ(telling.tick()->size(), 2U);
    EXPECT_EQ(datapath.destroyed, (std::vector<std::uint64_t>{4, 3, 2, 1}));
}

TEST_F(SameEnds, AreNotAllDestroyedInOneLookIfThatTakesLong)
{
    SlowDatapath slow(clock, 1ms);
    slow.denies = datapath.denies;
    SessionKeeper keeping{slow, clock, [](const bh_walked_socket&) { return std::nullopt; }, tell};
    for (std::uint64_t cookie = 1; cookie <= 500; ++cookie)
        slow.sockets.push_back(datagrams(cookie));
    slow.sockets.push_back(datagrams(501, 40001));
    (void)keeping.after_switch({Kind::cut, {}}).value();
    EXPECT_EQ(told.size(), 200U);
    EXPECT_EQ(told.front(), 501U) << "it does not wait for those of a crowd";
    for (const std::size_t left : {200U, 101U, 0U}) {
        clock.advance(1s);
        EXPECT_EQ(keeping.tick()->size(), left);
    }
    EXPECT_EQ(told, slow.destroyed);
}

// Or nobody's turn would come after thousands that are searched for in vain.
TEST_F(SameEnds, ThoseThatWereHiddenComeLast)
{
    SlowDatapath slow(clock, 50ms);
    slow.denies = datapath.denies;
    SessionKeeper keeping{slow, clock, [](const bh_walked_socket&) { return std::nullopt; }};
    for (std::uint64_t cookie = 0; cookie < 600; ++cookie) { // six crowds, of which four cannot be found
        slow.sockets.push_back(datagrams(1 + cookie, static_cast<std::uint16_t>(40000 + cookie / 100)));
        if (cookie < 400)
            slow.hidden_by[1 + cookie] = 999;
    }
    (void)keeping.after_switch({Kind::cut, {}}).value();
    EXPECT_TRUE(slow.destroyed.empty());
    clock.advance(1s);
    (void)keeping.tick().value();
    ASSERT_FALSE(slow.destroyed.empty());
    EXPECT_GT(slow.destroyed.front(), 400U);
}

// So many processes may each have one.
TEST_F(SameEnds, ThoseOfFewAreDestroyedAtOnceHoweverManyTheyAre)
{
    SlowDatapath slow(clock, 1ms);
    slow.denies = datapath.denies;
    SessionKeeper keeping{slow, clock, [](const bh_walked_socket&) { return std::nullopt; }};
    for (std::uint16_t i = 0; i < 900; ++i)
        slow.sockets.push_back(datagrams(1U + i, static_cast<std::uint16_t>(40000 + i)));
    EXPECT_EQ(keeping.after_switch({Kind::cut, {}})->size(), 900U);
    EXPECT_EQ(slow.destroyed.size(), 900U);
}

TEST_F(SameEnds, AreDestroyedInNewNamespacesToo)
{
    for (const std::uint64_t cookie : {1, 2, 3}) {
        recorded[cookie] = Direction::inbound;
        datapath.sockets.push_back(make(
            {.cookie = cookie, .local_port = 443, .protocol = IPPROTO_UDP, .netns = 8, .opened = BH_OPENED_BY_PEER}));
    }
    hide({2, 1, 3});
    EXPECT_EQ(keeper.came(std::vector<std::uint32_t>{8})->size(), 3U);
    EXPECT_EQ(datapath.destroyed, (std::vector<std::uint64_t>{3, 1, 2}));
    EXPECT_EQ(datapath.newcomers_judged, std::set<std::uint32_t>{8});
}

TEST_F(SameEnds, AreDestroyedInAWalkWhereTheKernelCan)
{
    datapath.walk_destroys = true;
    datapath.denies = [](const auto& request) { return request.subject.pid != 7; };
    datapath.sockets = {datagrams(1), datagrams(2), datagrams(3), datagrams(4), datagrams(5, 40001)};
    datapath.sockets[2].owner.pid = 7;
    hide({1, 2, 3, 4});
    datapath.undestroyable = {2};
    (void)telling.after_switch({Kind::cut, {}}).value();
    EXPECT_EQ(datapath.destroyed, (std::vector<std::uint64_t>{5, 4, 1})) << "also what an allowed one hides";
    EXPECT_EQ(std::set(told.begin(), told.end()), (std::set<std::uint64_t>{1, 2, 4, 5})) << "of each that is tried";
    datapath.undestroyable.clear();
    clock.advance(1s);
    EXPECT_EQ(telling.tick()->size(), 1U);
    EXPECT_EQ(datapath.destroyed.back(), 2U);
}

TEST_F(SameEnds, AreNotSearchedForWhereAWalkDestroysAll)
{
    SlowDatapath slow(clock, 1ms);
    slow.walk_destroys = true;
    slow.denies = datapath.denies;
    SessionKeeper keeping{slow, clock, [](const bh_walked_socket&) { return std::nullopt; }, tell};
    for (std::uint64_t cookie = 1; cookie <= 5000; ++cookie)
        slow.sockets.push_back(datagrams(cookie));
    slow.sockets.push_back(make({.cookie = 6001, .local_port = 40001}));
    slow.sockets.push_back(make({.cookie = 6002, .local_port = 40001}));
    slow.hidden_by[6001] = 6002;
    EXPECT_EQ(keeping.after_switch({Kind::cut, {}})->size(), 5002U);
    EXPECT_EQ(slow.destroyed.size(), 5002U) << "and connections as ever";
    EXPECT_EQ(told.size(), 5002U);
    EXPECT_LE(slow.searches, 2U);
}

// As a rule none has the ends of another, and to ask would double the calls.
TEST_F(SameEnds, OfConnectionsAreSearchedForWhereOneWasNotFound)
{
    datapath.sockets = {make({}), make({.cookie = 2, .local_port = 40001}), make({.cookie = 3, .local_port = 40001})};
    hide({2, 3});
    for (const auto& session : after(Kind::cut))
        EXPECT_TRUE(session.destroyed);
    EXPECT_EQ(datapath.destroyed, (std::vector<std::uint64_t>{1, 3, 2}));
    EXPECT_EQ(datapath.searches, 1U);
}

} // namespace
} // namespace bulkhead::agent
