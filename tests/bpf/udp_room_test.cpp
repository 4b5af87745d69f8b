// SPDX-License-Identifier: Apache-2.0
// The places of UDP conversations when somebody wants them all.
#include "tests/bpf/fixture.h"

#include <algorithm>
#include <cerrno>

namespace bulkhead::test {
namespace {

class UdpRoom : public BpfTest {
protected:
    static TestPolicy only_resolvers()
    {
        return TestPolicy()
            .default_action(outbound, refuse)
            .default_action(inbound, refuse)
            .allow(outbound, "10.77.0.2", "udp/53");
    }
};

// As many new conversations as there are places, of one port with every port of two addresses. Stops at a refusal.
std::size_t flood(const UniqueFd& from, const char* first, const char* second)
{
    std::size_t sent = 0;
    for (const char* address : {first, second})
        for (int port = 1; port < 65536; ++port) {
            if (sent == BH_UDP_FLOWS || send_to_error(from, {address, static_cast<std::uint16_t>(port)}) == EPERM)
                return sent;
            ++sent;
        }
    return sent;
}

// Twelve of sixteen.
constexpr std::size_t most_of_one = BH_UDP_FLOWS / 16 * 12;

TEST_F(UdpRoom, NoFloodPushesOutAConversationThatLives)
{
    realise(TestPolicy().default_action(outbound, permit).default_action(inbound, refuse));
    UniqueFd server, client, other;
    peer([&] { server = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
        other = make_socket(AF_INET, SOCK_DGRAM);
    });
    const auto question = receive(server);
    const auto sent = flood(other, "10.77.0.3", "10.77.0.2");
    EXPECT_EQ(sent, BH_UDP_FLOWS - 1); // the one before has its place
    EXPECT_EQ(send_to_error(other, {"10.77.0.2", 9}), EPERM) << "there is no room for its reply";
    ASSERT_EQ(reply_error(server, question, "answer"), 0);
    EXPECT_EQ(receive(client).text, "answer");
    EXPECT_GE(drained_count([](const bh_event& event) { return event.reason == BH_REASON_FULL; }), 1U);
    EXPECT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0) << "it goes on";
}

TEST_F(UdpRoom, WithoutRoomPassesWhatNeedsNone)
{
    realise(TestPolicy().default_action(outbound, permit).default_action(inbound, permit));
    UniqueFd client;
    guarded([&] { client = make_socket(AF_INET, SOCK_DGRAM); });
    EXPECT_EQ(flood(client, "10.77.0.3", "10.77.0.2"), BH_UDP_FLOWS);
    EXPECT_EQ(send_to_error(client, {"10.77.0.2", 9}), 0);
}

TEST_F(UdpRoom, AFloodFromOutsideTakesNoRoomFromWhatThisSideBegan)
{
    realise(
        TestPolicy().default_action(outbound, permit).default_action(inbound, refuse).allow(inbound, "any", "udp/7"));
    UniqueFd echo, server, client, flooder;
    peer([&] { server = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    guarded([&] {
        echo = bound(SOCK_DGRAM, {"10.77.0.1", 7});
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 53}), 0);
    });
    const auto question = receive(server);
    peer([&] {
        for (int i = 0; i < 20'000; ++i) {
            flooder = bound(SOCK_DGRAM, {"10.77.0.3", static_cast<std::uint16_t>(1024 + i)});
            (void)send_to_error(flooder, {"10.77.0.1", 7});
        }
    });
    ASSERT_EQ(reply_error(server, question, "answer"), 0);
    EXPECT_EQ(receive(client).text, "answer");
    EXPECT_GE(datapath_->udp_flows().value().size(), 20'000U);
}

// Where anybody may send as he likes, and to as many ports.
TEST_F(UdpRoom, WhatStaysOnTheHostLeavesRoomForTheRest)
{
    realise(only_resolvers());
    guarded([&] {
        for (int i = 0; i < 2; ++i) {
            const auto talks = make_socket(AF_INET, SOCK_DGRAM);
            for (std::uint16_t port = 1; port < 65'000; ++port)
                ASSERT_NE(send_to_error(talks, {"10.77.0.1", port}), EPERM);
        }
        EXPECT_EQ(send_to_error(make_socket(AF_INET, SOCK_DGRAM), {"10.77.0.2", 53}), 0);
    });
}

// What is kept for services is so whatever users somebody has: here three of his subuids.
TEST_F(UdpRoom, WhoLogsInLeavesRoomToServices)
{
    realise(TestPolicy().default_action(outbound, permit).default_action(inbound, refuse));
    guarded([&] {
        std::size_t took = 0;
        as_user(1000, [&] { took = flood(make_socket(AF_INET, SOCK_DGRAM), "10.77.0.3", "10.77.0.2"); });
        EXPECT_EQ(took, most_of_one);
        for (const uid_t user : {100'001U, 100'002U, 100'003U})
            as_user(user, [&] { (void)flood(make_socket(AF_INET, SOCK_DGRAM), "10.77.0.3", "10.77.0.2"); });
        for (const uid_t service : {0U, 53U, 101U, 997U, 62'000U})
            as_user(service, [&] {
                const auto socket = make_socket(AF_INET, SOCK_DGRAM);
                for (std::uint16_t port = 1; port <= 1000; ++port)
                    ASSERT_EQ(send_to_error(socket, {"10.77.0.2", port}), 0) << service;
            });
    });
}

TEST_F(UdpRoom, OneServiceLeavesRoomToOthers)
{
    realise(TestPolicy().default_action(outbound, permit).default_action(inbound, refuse));
    guarded([&] {
        std::size_t took = 0;
        as_user(33, [&] { took = flood(make_socket(AF_INET, SOCK_DGRAM), "10.77.0.3", "10.77.0.2"); });
        EXPECT_EQ(took, most_of_one);
        for (const uid_t user : {0U, 53U, 101U, 997U, 1000U, 1001U})
            as_user(user, [&] {
                const auto socket = make_socket(AF_INET, SOCK_DGRAM);
                for (std::uint16_t port = 1; port <= 400; ++port)
                    ASSERT_EQ(send_to_error(socket, {"10.77.0.2", port}), 0) << user;
            });
    });
}

TEST_F(UdpRoom, OnePeerLeavesRoomToOthers)
{
    realise(
        TestPolicy().default_action(inbound, refuse).default_action(outbound, refuse).allow(inbound, "any", "udp/7"));
    UniqueFd heard;
    guarded([&] { heard = bound(SOCK_DGRAM, {"10.77.0.1", 7}); });
    peer([&] {
        for (std::uint16_t port = 1024; port < 65'000; ++port)
            (void)send_to_error(bound(SOCK_DGRAM, {"10.77.0.3", port}), {"10.77.0.1", 7});
    });
    EXPECT_EQ(datapath_->udp_flows().value().size(), most_of_one);
    while (!receive(heard, std::chrono::milliseconds(10)).text.empty())
        ;
    peer([&] { ASSERT_EQ(send_to_error(bound(SOCK_DGRAM, {"10.77.0.2", 1024}), {"10.77.0.1", 7}, "other"), 0); });
    EXPECT_EQ(receive(heard).text, "other");
}

} // namespace
} // namespace bulkhead::test
