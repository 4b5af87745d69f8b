// SPDX-License-Identifier: Apache-2.0
// Datagrams that every host of a network hears pass no inbound door, so that the guard has to know their addresses.
#include "tests/bpf/frames.h"
#include "tests/bpf/guard_fixture.h"

#include <netinet/in.h>

#include <string>
#include <utility>

namespace bulkhead::test {
namespace {

class BroadcastTest : public GuardTest {};

INSTANTIATE_TEST_SUITE_P(, BroadcastTest, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "clsact" : "tcx"; });

TEST_P(BroadcastTest, ADatagramToAllIsJudged)
{
    realise(closed().allow(inbound, "10.77.0.3", "udp/5000"));
    UniqueFd server;
    guarded([&] { server = bound(SOCK_DGRAM, {"0.0.0.0", 5000}); });
    peer([&] {
        const UniqueFd from2 = bound(SOCK_DGRAM, {"10.77.0.2", 4000});
        set_option(from2, SOL_SOCKET, SO_BROADCAST, 1);
        EXPECT_EQ(send_to_error(from2, {"10.77.0.255", 5000}, "two"), 0);
        EXPECT_EQ(send_to_error(from2, {"255.255.255.255", 5000}, "two"), 0);
        const UniqueFd from3 = bound(SOCK_DGRAM, {"10.77.0.3", 4000});
        set_option(from3, SOL_SOCKET, SO_BROADCAST, 1);
        EXPECT_EQ(send_to_error(from3, {"10.77.0.255", 5000}, "three"), 0);
    });
    EXPECT_EQ(receive(server).text, "three");
    const auto denied = denial(IPPROTO_UDP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->local_port, 5000);
}

// As clouds give it: a network of one address, which DHCP clients set as its broadcast address, too.
TEST_P(BroadcastTest, AnAddressThatIsItsOwnBroadcastAddressIsAnAddress)
{
    ip(world_->wire.guarded, "addr add 10.90.0.1/32 brd 10.90.0.1 dev bh0");
    // The last one of another interface's network, and the first one.
    ip(world_->wire.guarded, "addr add 10.92.0.255/32 dev bh0");
    ip(world_->wire.guarded, "addr add 10.92.0.0/32 dev bh0");
    ip(world_->wire.guarded, "link add pods type veth peer name pod");
    ip(world_->wire.guarded, "addr add 10.92.0.1/24 dev pods");
    ip(world_->wire.guarded, "link set pods up");
    ip(world_->wire.peer, "route add 10.90.0.1 via 10.77.0.1");
    ip(world_->wire.peer, "route add 10.92.0.0/24 via 10.77.0.1");
    ASSERT_TRUE(datapath_->follow_interfaces());
    realise(closed().allow(outbound, "10.77.0.2", "udp/53"));
    UniqueFd resolver;
    peer([&] { resolver = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    for (const char* own : {"10.90.0.1", "10.92.0.255", "10.92.0.0"}) {
        UniqueFd asking;
        guarded([&] {
            asking = bound(SOCK_DGRAM, {own, 0});
            EXPECT_EQ(send_to_error(asking, {"10.77.0.2", 53}, "question"), 0);
        });
        EXPECT_EQ(reply_error(resolver, receive(resolver), "answer"), 0);
        EXPECT_EQ(receive(asking).text, "answer") << own;
    }
}

// What the kernel takes for broadcast, whatever was set, and however many networks there are.
TEST_P(BroadcastTest, EveryBroadcastAddressIsJudged)
{
    const auto none_arrives = [this] {
        ASSERT_TRUE(datapath_->follow_interfaces());
        realise(closed());
        UniqueFd server;
        guarded([&] { server = bound(SOCK_DGRAM, {"0.0.0.0", 5000}); });
        const std::string header("\x0f\xa0\x13\x88\0\x09\0\0", 8); // from 4000 to 5000, without a checksum
        for (const auto& [from, to] : {std::pair{"10.77.0.2", "10.91.0.255"}, {"0.0.0.0", "0.0.0.0"}}) {
            peer([&] { EXPECT_EQ(send_frame(ip_packet(from, to, IPPROTO_UDP, header + "x")), 0); });
            EXPECT_EQ(receive(server).text, "") << to;
            EXPECT_TRUE(denial(IPPROTO_UDP)) << to;
        }
    };
    ip(world_->wire.guarded, "addr add 10.91.0.1/24 brd 10.255.255.255 dev bh0");
    none_arrives();
    for (int i = 1; i <= 12; ++i)
        ip(world_->wire.guarded, "addr add 10.101." + std::to_string(i) + ".1/24 dev bh0");
    none_arrives();
}

// Each has one of its own, and the guard's short list of them is for eight.
TEST_P(BroadcastTest, AHostMayHaveManyNetworks)
{
    for (int i = 1; i <= 12; ++i)
        ip(world_->wire.guarded, "addr add 10.101." + std::to_string(i) + ".1/24 dev bh0");
    ASSERT_TRUE(datapath_->follow_interfaces());
    agent::FacetTable everybody_is_of_class_1;
    for (const __u32 facet : {BH_FACET_USER, BH_FACET_CGROUP, BH_FACET_EXECUTABLE})
        everybody_is_of_class_1.push_back({{0, 0, facet | BH_FACET_DEFAULT}, {{0b11, 0, 0, 0}}});
    realise(closed().rule(policy::HostAction::allow, inbound, "10.77.0.2", "udp/5001", 1).process_classes(1),
            std::move(everybody_is_of_class_1));
    UniqueFd server, of_process;
    guarded([&] {
        server = bound(SOCK_DGRAM, {"0.0.0.0", 5000});
        of_process = bound(SOCK_DGRAM, {"0.0.0.0", 5001});
    });
    ip(world_->wire.peer, "route add 10.101.0.0/16 via 10.77.0.1");
    const auto frame = [](const char* to) {
        const std::string header("\x0f\xa0\x13\x88\0\x09\0\0", 8); // from 4000 to 5000, without a checksum
        return ip_packet("10.77.0.2", to, IPPROTO_UDP, header + "x");
    };
    for (const char* network : {"10.101.1.255", "10.101.12.255", "10.77.0.255"}) {
        peer([&] { EXPECT_EQ(send_frame(frame(network)), 0); });
        EXPECT_EQ(receive(server).text, "") << network;
        EXPECT_TRUE(denial(IPPROTO_UDP)) << network;
    }
    peer([&] { EXPECT_EQ(send_to_error(make_socket(AF_INET, SOCK_DGRAM), {"10.101.12.1", 5001}, "to one"), 0); });
    EXPECT_EQ(receive(of_process).text, "to one") << "the door knows whose the port is";
}

} // namespace
} // namespace bulkhead::test
