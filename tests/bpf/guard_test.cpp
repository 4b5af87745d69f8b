// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/frames.h"
#include "tests/bpf/guard_fixture.h"

#include <netinet/in.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

namespace bulkhead::test {
namespace {

using policy::HostAction;

INSTANTIATE_TEST_SUITE_P(, GuardTest, testing::Bool(), [](const auto& kind) { return kind.param ? "clsact" : "tcx"; });

TEST_P(GuardTest, WithoutAPolicyPingsPass)
{
    peer([&] { EXPECT_TRUE(pings("10.77.0.1")); });
    guarded([&] { EXPECT_TRUE(pings("fd77::2")); });
}

TEST_P(GuardTest, APingFromOutsideIsRefusedAndTold)
{
    realise(TestPolicy().default_action(inbound, refuse));
    peer([&] {
        EXPECT_FALSE(pings("10.77.0.1"));
        EXPECT_FALSE(pings("fd77::1"));
    });
    const auto v4 = denial(IPPROTO_ICMP);
    ASSERT_TRUE(v4);
    EXPECT_EQ(v4->direction, BH_INBOUND);
    EXPECT_EQ(v4->icmp_type, 8);
    EXPECT_EQ(v4->verdict, BH_DENIED);
    EXPECT_EQ(v4->reason, BH_REASON_DEFAULT);
    EXPECT_EQ(std::memcmp(&v4->remote, abi_address("10.77.0.2").byte, 16), 0);
    EXPECT_EQ(std::memcmp(&v4->local, abi_address("10.77.0.1").byte, 16), 0);
    ASSERT_TRUE(denial(IPPROTO_ICMPV6)); // and IPv6 works at all only because its neighbour discovery passes
}

TEST_P(GuardTest, TheAnswerToAnAllowedPingPasses)
{
    realise(TestPolicy().default_action(inbound, refuse)); // out: allowed
    guarded([&] {
        EXPECT_TRUE(pings("10.77.0.2"));
        EXPECT_TRUE(pings("fd77::2"));
    });
}

TEST_P(GuardTest, APingToOutsideIsRefusedAndNamesItsProcess)
{
    realise(TestPolicy().default_action(outbound, refuse));
    Sniffer sniffer(world_->wire.peer);
    guarded([&] { (void)send_frame_ip("10.77.0.2", icmp_echo(7)); }); // a raw socket is not told what becomes of it
    EXPECT_FALSE(sniffer.saw_protocol(IPPROTO_ICMP));
    const auto denied = denial(IPPROTO_ICMP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->direction, BH_OUTBOUND);
    EXPECT_EQ(denied->subject.pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_EQ(denied->subject.cgroup_id, world_->enforced.id());
    // What is outside of the enforced cgroup is not asked.
    outsider([&] { EXPECT_EQ(send_frame_ip("10.77.0.2", icmp_echo(8)), 0); });
}

TEST_P(GuardTest, AnExchangeDoesNotOutliveTheRuleThatAllowedIt)
{
    constexpr auto lasts = std::chrono::milliseconds(2000);
    realise(TestPolicy().default_action(outbound, refuse).allow(outbound, "10.77.0.2", "icmp/8").expires_in(lasts));
    const auto expired = std::chrono::steady_clock::now() + lasts;
    const auto arrives = [&] {
        Sniffer sniffer(world_->wire.peer);
        guarded([&] { (void)send_frame_ip("10.77.0.2", icmp_echo(7)); });
        return sniffer.saw_protocol(IPPROTO_ICMP);
    };
    EXPECT_TRUE(arrives());
    std::this_thread::sleep_until(expired + std::chrono::milliseconds(100));
    EXPECT_FALSE(arrives());
}

TEST_P(GuardTest, AnEchoRequestIsNoAnswerToOne)
{
    realise(TestPolicy().default_action(inbound, refuse));
    guarded([&] { EXPECT_EQ(send_frame_ip("10.77.0.2", icmp_echo(77)), 0); });
    Sniffer sniffer(world_->wire.guarded);
    peer([&] { EXPECT_EQ(send_frame_ip("10.77.0.1", icmp_echo(77)), 0); }); // rides on the identifier
    EXPECT_TRUE(denial(IPPROTO_ICMP));
}

TEST_P(GuardTest, RawPacketsAreJudgedLikeThoseOfSockets)
{
    realise(closed().allow(outbound, "10.77.0.2", "tcp/80"));
    Sniffer sniffer(world_->wire.peer);
    guarded([&] {
        EXPECT_EQ(send_frame(tcp_packet("10.77.0.1", "10.77.0.2", 1234, 80, tcp_syn)), 0);
        (void)send_frame(tcp_packet("10.77.0.1", "10.77.0.2", 1234, 81, tcp_syn));
        (void)send_frame(tcp_packet("fd77::1", "fd77::2", 1234, 80, tcp_syn));
    });
    EXPECT_TRUE(sniffer.saw_tcp("10.77.0.2", 80));
    EXPECT_FALSE(sniffer.saw_tcp("10.77.0.2", 81));
    EXPECT_FALSE(sniffer.saw_tcp("fd77::2", 80));
    const auto denied = denial(IPPROTO_TCP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->remote_port, 81);
}

TEST_P(GuardTest, AForgedSourceIsRefusedWhateverTheRule)
{
    realise(closed().allow(outbound, "10.77.0.2", "tcp/80"));
    Sniffer sniffer(world_->wire.peer);
    guarded([&] { (void)send_frame(tcp_packet("10.77.0.99", "10.77.0.2", 1234, 80, tcp_syn)); });
    EXPECT_FALSE(sniffer.saw_tcp("10.77.0.2", 80));
    const auto denied = denial(IPPROTO_TCP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->reason, BH_REASON_MALFORMED);
}

TEST_P(GuardTest, WhatComesFromOutsideWithOurOwnAddressIsRefused)
{
    realise(closed().allow(inbound, "any", "tcp/80"));
    peer([&] { (void)send_frame(tcp_packet("fd77::1", "fd77::1", 1234, 80, tcp_syn)); });
    const auto denied = denial(IPPROTO_TCP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->direction, BH_INBOUND);
    EXPECT_EQ(denied->reason, BH_REASON_MALFORMED);
}

// A neighbour has the address, and says so from it.
TEST_P(GuardTest, AnAddressThatANeighbourHasIsNotTaken)
{
    ip(world_->wire.peer, "addr add fd77::99/64 dev bh0 nodad");
    realise(closed().allow(inbound, "any", "icmpv6/128"));
    ip(world_->wire.guarded, "addr add fd77::99/64 dev bh0");
    ASSERT_TRUE(datapath_->follow_interfaces()); // while it is asked whether somebody has it
    const auto refused = [&] {
        bool done = false;
        guarded([&] {
            done = std::system("ip -6 addr show dev bh0 to fd77::99 | grep -q dadfailed") == 0; // NOLINT(cert-env33-c)
        });
        return done;
    };
    for (int i = 0; i < 40 && !refused(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_TRUE(refused());
    EXPECT_FALSE(denial_seen(IPPROTO_ICMPV6));
    ASSERT_TRUE(datapath_->follow_interfaces());
    ip(world_->wire.guarded, "neigh replace fd77::99 lladdr 02:77:00:00:00:02 dev bh0 nud permanent");
    peer([&] { EXPECT_TRUE(pings("-I fd77::99 fd77::1")) << "it is the neighbour's"; });
}

TEST_P(GuardTest, OrdinaryTrafficIsLeftToItsDoors)
{
    realise(closed().allow(outbound, "10.77.0.2", "tcp/80").allow(inbound, "10.77.0.2", "tcp/22"));
    UniqueFd http, ssh;
    peer([&] { http = listening({"10.77.0.2", 80}); });
    guarded([&] { ssh = listening({"10.77.0.1", 22}); });
    guarded([&] { EXPECT_EQ(tcp_error({"10.77.0.2", 80}), 0); });
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 22}), 0); });
    EXPECT_EQ(datapath_->counters().at("denied_in") + datapath_->counters().at("denied_out"), 0U);
}

TEST_P(GuardTest, SourceRoutesAreRefused)
{
    realise(TestPolicy().default_action(inbound, refuse).default_action(outbound, permit));
    Sniffer sniffer(world_->wire.peer);
    guarded([&] {
        (void)send_frame(with_source_route(tcp_packet("10.77.0.1", "10.77.0.2", 1234, 80, tcp_syn)));
        (void)send_frame(with_routing_header(tcp_packet("fd77::1", "fd77::2", 1234, 81, tcp_syn)));
    });
    EXPECT_EQ(drained_count([](const bh_event& event) { return event.reason == BH_REASON_MALFORMED; }), 2U);
    EXPECT_FALSE(sniffer.saw_tcp("10.77.0.2", 80));
}

TEST_P(GuardTest, AnotherProtocolNeedsARule)
{
    realise(closed());
    Sniffer sniffer(world_->wire.peer);
    guarded([&] { (void)send_frame(ip_packet("10.77.0.1", "10.77.0.2", IPPROTO_GRE, std::string(20, 'x'))); });
    peer([&] { (void)send_frame(ip_packet("10.77.0.2", "10.77.0.1", IPPROTO_ESP, std::string(20, 'x'))); });
    const auto out = denial(IPPROTO_GRE);
    ASSERT_TRUE(out);
    EXPECT_EQ(out->direction, BH_OUTBOUND);
    const auto in = denial(IPPROTO_ESP);
    ASSERT_TRUE(in);
    EXPECT_EQ(in->direction, BH_INBOUND);
    EXPECT_FALSE(sniffer.saw_protocol(IPPROTO_GRE));
}

TEST_P(GuardTest, AnInterfaceThatComesLaterIsGuarded)
{
    realise(closed());
    EXPECT_EQ(datapath_->guarded_interfaces(), std::vector<std::string>{"bh0"});
    ip(world_->wire.guarded, "link add bh1 type veth peer name bh2");
    ip(world_->wire.guarded, "link set bh0 name bh9");
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(datapath_->guarded_interfaces(), (std::vector<std::string>{"bh1", "bh2", "bh9"}));
    ip(world_->wire.guarded, "link del bh1");
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(datapath_->guarded_interfaces(), std::vector<std::string>{"bh9"});
}

TEST_P(GuardTest, DetachingTakesTheQueueingDisciplineAlongUnlessSomebodyUsesIt)
{
    const auto runs = [](const std::string& command) {
        return std::system(command.c_str()) == 0; // NOLINT(cert-env33-c): with our own words
    };
    ip(world_->wire.guarded, "link add bh1 type veth peer name bh2");
    ASSERT_TRUE(datapath_->follow_interfaces());
    guarded([&] {
        ASSERT_TRUE(GetParam() || runs("tc qdisc add dev bh1 clsact"));
        EXPECT_EQ(runs("tc qdisc show dev bh0 | grep -q clsact"), GetParam());
        ASSERT_TRUE(add_foreign_filter("bh1"));
    });
    datapath_.reset();
    outsider([&] {
        ASSERT_TRUE(agent::detach_datapath(options()));
        EXPECT_FALSE(runs("tc qdisc show dev bh0 | grep -q clsact"));
        EXPECT_FALSE(runs("tc qdisc show dev bh2 | grep -q clsact"));
        EXPECT_TRUE(runs("tc filter show dev bh1 egress | grep -q foreign"));
    });
}

// As ip(8) takes a namespace without a name.
std::string in_this_process(const Netns& netns)
{
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(netns.fd());
}

// It was moved to another namespace while no agent ran, with a link of ours on it, and its number was given to another.
TEST_P(GuardTest, AnInterfaceIsNotTakenForItsPredecessor)
{
    const Netns away;
    const auto add = [&](const std::string& options) {
        ip(world_->wire.guarded,
           "link add " + options + " type veth peer name other netns " + in_this_process(world_->wire.peer));
    };
    std::string number;
    add("card");
    ASSERT_TRUE(datapath_->follow_interfaces());
    guarded([&] { number = std::to_string(::if_nametoindex("card")); });
    datapath_.reset();
    ip(world_->wire.guarded, "link set card netns " + in_this_process(away));
    ip(world_->wire.peer, "link set other name before");
    add("next index " + number);
    ip(world_->wire.guarded, "addr add 10.80.0.1/24 dev next");
    ip(world_->wire.guarded, "link set next up");
    ip(world_->wire.peer, "addr add 10.80.0.2/24 dev other");
    ip(world_->wire.peer, "link set other up");
    auto again = open(options());
    ASSERT_TRUE(again) << again.error().message;
    datapath_ = std::move(*again);
    realise(closed());
    peer([&] { EXPECT_FALSE(pings("10.80.0.1")); });
}

TEST_P(GuardTest, WhatActsOnAnInterfaceThatWentIsTakenOff)
{
    const Netns away;
    ip(world_->wire.guarded, "link add card type veth peer name other netns " + in_this_process(world_->wire.peer));
    ASSERT_TRUE(datapath_->follow_interfaces());
    realise(closed());
    datapath_.reset();
    ip(world_->wire.guarded, "link set card netns " + in_this_process(away));
    auto again = open(options());
    ASSERT_TRUE(again) << again.error().message;
    datapath_ = std::move(*again);
    std::size_t pins = 0;
    for (const auto& one : std::filesystem::directory_iterator(options().pin_dir + "/test/links"))
        pins += one.path().filename().string().starts_with("guard_") ? 1U : 0U;
    EXPECT_EQ(pins, GetParam() ? 0U : 2U) << "those of bh0";
}

TEST_P(GuardTest, AnInterfaceWithoutAnEthernetHeaderIsGuarded)
{
    UniqueFd tunnel;
    guarded([&] { tunnel = tunnel_device("bhtun"); });
    if (!tunnel)
        GTEST_SKIP() << "no tun device can be made here";
    ip(world_->wire.guarded, "addr add 10.79.0.1/24 dev bhtun");
    ip(world_->wire.guarded, "link set bhtun up");
    const auto ping = ip_packet("10.79.0.2", "10.79.0.1", IPPROTO_ICMP, icmp_echo(5));
    const auto pings_through = [&] {
        EXPECT_EQ(::write(tunnel.get(), ping.data(), ping.size()), static_cast<ssize_t>(ping.size()));
        return ping_answered(tunnel);
    };
    EXPECT_TRUE(pings_through());
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(datapath_->guarded_interfaces(), (std::vector<std::string>{"bh0", "bhtun"}));
    realise(TestPolicy().default_action(inbound, refuse));
    EXPECT_FALSE(pings_through());
    const auto denied = denial(IPPROTO_ICMP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(std::memcmp(&denied->remote, abi_address("10.79.0.2").byte, 16), 0);
    realise(TestPolicy().default_action(inbound, refuse).allow(inbound, "10.79.0.2", "icmp/8"));
    EXPECT_TRUE(pings_through());
    Result<std::unique_ptr<agent::Datapath>> again; // an agent that finds the interface there
    datapath_.reset();
    again = open(options());
    ASSERT_TRUE(again) << again.error().message;
    datapath_ = std::move(*again);
    EXPECT_TRUE(pings_through());
    realise(TestPolicy().default_action(inbound, refuse));
    EXPECT_FALSE(pings_through());
}

TEST_P(GuardTest, TheGuardStaysWithoutAnAgentAndIsTakenOver)
{
    realise(closed());
    datapath_.reset();
    peer([&] { EXPECT_FALSE(pings("10.77.0.1")); });
    auto again = open(options());
    ASSERT_TRUE(again) << again.error().message;
    datapath_ = std::move(*again);
    peer([&] { EXPECT_FALSE(pings("10.77.0.1")); });
    Result<bool> detached;
    run_in(world_->wire.guarded, world_->elsewhere, [&] {
        datapath_.reset();
        detached = agent::detach_datapath(options());
    });
    ASSERT_TRUE(detached);
    peer([&] { EXPECT_TRUE(pings("10.77.0.1")); });
}

TEST_P(GuardTest, AnErrorAboutWhatWeSentComesIn)
{
    realise(TestPolicy().default_action(inbound, refuse)); // out: allowed
    UniqueFd client;
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(connect_error(client, {"10.77.0.2", 9}), 0);
        ASSERT_EQ(send_error(client), 0); // nobody listens there
    });
    ::usleep(50'000);
    EXPECT_EQ(send_error(client), ECONNREFUSED);
    EXPECT_FALSE(denial_seen(IPPROTO_ICMP));
}

TEST_P(GuardTest, AnErrorAboutNothingIsRefused)
{
    realise(TestPolicy().default_action(inbound, refuse));
    UniqueFd listener;
    guarded([&] { listener = listening({"10.77.0.1", 80}); }); // a listener answers for no packet
    peer([&] {
        EXPECT_EQ(send_frame_ip("10.77.0.1", icmp_error(3, 1, tcp_packet("10.77.0.1", "10.77.0.2", 80, 4000, 0))), 0);
    });
    const auto denied = denial(IPPROTO_ICMP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->icmp_type, 3);
}

TEST_P(GuardTest, TooBigAlwaysComesIn)
{
    realise(TestPolicy().default_action(inbound, refuse));
    peer([&] {
        EXPECT_EQ(send_frame_ip("10.77.0.1", icmp_error(3, 4, tcp_packet("10.77.0.1", "10.77.0.2", 80, 4000, 0))), 0);
    });
    EXPECT_FALSE(denial_seen(IPPROTO_ICMP));
}

TEST_P(GuardTest, LargeDatagramsOfASocketPassInPieces)
{
    realise(closed().allow(outbound, "fd77::2", "udp/53").allow(outbound, "10.77.0.2", "udp/53"));
    UniqueFd v6, v4;
    peer([&] {
        v6 = bound(SOCK_DGRAM, {"fd77::2", 53});
        v4 = bound(SOCK_DGRAM, {"10.77.0.2", 53});
    });
    guarded([&] {
        EXPECT_EQ(send_to_error(make_socket(AF_INET6, SOCK_DGRAM), {"fd77::2", 53}, std::string(5000, 'x')), 0);
        EXPECT_EQ(send_to_error(make_socket(AF_INET, SOCK_DGRAM), {"10.77.0.2", 53}, std::string(5000, 'x')), 0);
    });
    EXPECT_FALSE(receive(v6).text.empty());
    EXPECT_FALSE(receive(v4).text.empty());
    EXPECT_FALSE(denial_seen(IPPROTO_UDP));
}

// The other way to refuse.
class SilentGuardTest : public BpfTest {
protected:
    [[nodiscard]] agent::DatapathOptions options(const std::string& instance = "test") const override
    {
        auto options = BpfTest::options(instance);
        options.guard.attach = true;
        options.refuse_silently = true;
        return options;
    }
};

TEST_F(SilentGuardTest, ARefusedAttemptGetsNoAnswer)
{
    realise(TestPolicy().default_action(inbound, refuse).allow(inbound, "10.77.0.3", "tcp/80"));
    UniqueFd server;
    guarded([&] { server = listening({"10.77.0.1", 80}); });
    Sniffer sniffer(world_->wire.peer);
    peer([&] {
        EXPECT_EQ(send_frame(tcp_packet("10.77.0.2", "10.77.0.1", 4000, 80, tcp_syn)), 0);
        const UniqueFd client = make_socket(AF_INET, SOCK_DGRAM);
        EXPECT_EQ(connect_error(client, {"10.77.0.1", 80}), 0);
        EXPECT_EQ(send_error(client), 0);
        ::usleep(50'000);
        EXPECT_EQ(send_error(client), 0) << "no port unreachable has come";
    });
    EXPECT_FALSE(sniffer.saw_protocol(IPPROTO_TCP));
}

TEST_F(SilentGuardTest, AClosedPortOfAnAllowedPeerStillAnswers)
{
    realise(TestPolicy().default_action(inbound, refuse).allow(inbound, "10.77.0.2", "tcp/81"));
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 81}), ECONNREFUSED); });
}

} // namespace
} // namespace bulkhead::test
