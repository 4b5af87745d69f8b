// SPDX-License-Identifier: Apache-2.0
#include "sessions_fixture.h"

namespace bulkhead::agent {
namespace {

TEST_F(Sessions, WhatATransparentProxyAcceptedIsJudgedAtThePortOfTheProxy)
{
    datapath.denies = [](const auto& request) { return request.direction == BH_OUTBOUND || request.port != 15006; };
    auto proxy = listener("0.0.0.0", 15006, 9);
    proxy.socket.transparent = 1;
    const SocketSpec spec{.cookie = 5,
                          .local = "203.0.113.5",
                          .local_port = 80,
                          .remote_port = 50000,
                          .opened = BH_OPENED_UNKNOWN,
                          .transparent = 1};
    datapath.sockets = {proxy, make(spec)};
    EXPECT_TRUE(after(Kind::cut).empty()) << "the agent was started anew";
    recorded[5] = Direction::inbound;
    EXPECT_TRUE(after(Kind::cut).empty());
    EXPECT_EQ(datapath.judged.back().subject.pid, 9U);

    auto others = spec;
    others.cgroup = 8;
    datapath.sockets = {proxy, make(others)};
    EXPECT_EQ(after(Kind::cut).size(), 1U) << "another unit's proxy";
    auto plain = spec;
    plain.transparent = 0;
    plain.cookie = 6;
    datapath.sockets = {proxy, make(plain)};
    EXPECT_EQ(after(Kind::cut).size(), 1U);
    recorded[7] = Direction::outbound;
    auto departed = spec;
    departed.cookie = 7;
    datapath.sockets = {proxy, make(departed)};
    EXPECT_EQ(after(Kind::cut).size(), 1U);
}

// Anybody can make them in a namespace of his own: in all ways, these would be nine million.
TEST_F(Sessions, ManyTransparentListenersAreNotAllAskedForEachSession)
{
    datapath.denies = [](const auto&) { return true; };
    for (unsigned i = 0; i < 3000; ++i) {
        auto proxy = listener("0.0.0.0", static_cast<std::uint16_t>(10'000 + i), 9);
        proxy.socket.transparent = 1;
        datapath.sockets.push_back(proxy);
        datapath.sockets.push_back(make({.cookie = 5 + i,
                                         .local = "203.0.113.5",
                                         .local_port = 80,
                                         .remote_port = static_cast<std::uint16_t>(20'000 + i),
                                         .opened = BH_OPENED_UNKNOWN,
                                         .transparent = 1}));
    }
    EXPECT_EQ(after(Kind::cut).size(), 3000U);
    EXPECT_EQ(datapath.judged.size(), 3000U * (2 + ListenerIndex::most_proxies));
}

TEST_F(Sessions, AProxysListenersForItsThreadsAreOne)
{
    datapath.denies = [](const auto& request) { return request.port != 15006; };
    auto proxy = listener("0.0.0.0", 15001, 9);
    proxy.socket.transparent = 1;
    datapath.sockets.assign(2 * ListenerIndex::most_proxies, proxy);
    proxy.socket.local_port = 15006;
    datapath.sockets.push_back(proxy);
    datapath.sockets.push_back(make({.cookie = 5,
                                     .local = "203.0.113.5",
                                     .local_port = 80,
                                     .remote_port = 50000,
                                     .opened = BH_OPENED_UNKNOWN,
                                     .transparent = 1}));
    EXPECT_TRUE(after(Kind::cut).empty());
}

} // namespace
} // namespace bulkhead::agent
