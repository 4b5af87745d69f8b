// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/forwarding_fixture.h"
#include "tests/bpf/frames.h"

#include <netinet/in.h>

#include <chrono>
#include <cstring>
#include <thread>

namespace bulkhead::test {
namespace {

int judged_mark(const agent::DatapathOptions& options)
{
    const UniqueFd map(bpf_obj_get((agent::pin_folder(options) + "/maps/bh_judged_mark").c_str()));
    const __u32 zero = 0;
    __u32 mark = 0;
    EXPECT_EQ(bpf_map_lookup_elem(map.get(), &zero, &mark), 0);
    EXPECT_NE(mark, 0U);
    return static_cast<int>(mark);
}

INSTANTIATE_TEST_SUITE_P(, ForwardingTest, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "clsact" : "tcx"; });

TEST_P(ForwardingTest, APacketMustPassInAndOut)
{
    ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
    realise(only_http());
    EXPECT_EQ(from_behind(80), 0); // both ways: the answers pass as answers
    EXPECT_NE(from_behind(81), 0); // out, but not in
    const auto denied = denial(IPPROTO_TCP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->direction, BH_FORWARDED);
    EXPECT_EQ(std::memcmp(&denied->local, abi_address("10.78.0.2").byte, 16), 0);
    EXPECT_EQ(std::memcmp(&denied->remote, abi_address("10.77.0.2").byte, 16), 0);
    EXPECT_EQ(denied->remote_port, 81);
    EXPECT_NE(from_behind(82), 0); // in, but not out
    const auto not_out = denial(IPPROTO_TCP);
    ASSERT_TRUE(not_out);
    EXPECT_EQ(not_out->remote_port, 82);
}

TEST_P(ForwardingTest, AConnectionDoesNotOutliveTheRuleThatAllowedIt)
{
    constexpr auto lasts = std::chrono::milliseconds(2000);
    ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
    realise(closed().allow(inbound, "10.78.0.2", "tcp/80").allow(outbound, "10.77.0.2", "tcp/80").expires_in(lasts));
    const auto expired = std::chrono::steady_clock::now() + lasts;
    UniqueFd client;
    run_in(*behind_, world_->elsewhere, [&] {
        client = make_socket(AF_INET, SOCK_STREAM);
        EXPECT_EQ(connect_error(client, {"10.77.0.2", 80}), 0);
    });
    const UniqueFd server = accepted(http_);
    const auto arrives = [&] {
        EXPECT_EQ(send_error(client), 0);
        return !receive(server, std::chrono::milliseconds(700)).text.empty();
    };
    EXPECT_TRUE(arrives());
    EXPECT_TRUE(arrives());
    std::this_thread::sleep_until(expired + std::chrono::milliseconds(100));
    EXPECT_FALSE(arrives());
}

// The host has more networks than the guard's short list of their broadcast addresses holds.
TEST_P(ForwardingTest, BetweenManyNetworksToo)
{
    for (int i = 1; i <= 12; ++i)
        ip(world_->wire.guarded, "addr add 10.101." + std::to_string(i) + ".1/24 dev inner");
    ASSERT_TRUE(datapath_->follow_interfaces());
    ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
    realise(only_http());
    EXPECT_EQ(from_behind(80), 0);
    EXPECT_NE(from_behind(81), 0); // out, but not in
    EXPECT_NE(from_behind(82), 0); // in, but not out
    const auto denied = denial(IPPROTO_TCP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->direction, BH_FORWARDED);
}

// Somebody on the wire sends, in a container's name, what that may begin; and would then be let in as who answers.
TEST_P(ForwardingTest, WhatOpensAConnectionIsNoAnswer)
{
    ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
    guarded([&] { ASSERT_TRUE(run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.bh0.rp_filter=0")); });
    realise(only_http());
    UniqueFd listener;
    run_in(*behind_, world_->elsewhere, [&] { listener = listening({"10.78.0.2", 22}); });
    peer([&] {
        ASSERT_EQ(send_frame(tcp_packet("10.78.0.2", "10.77.0.2", 22, 80, tcp_syn)), 0);
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        http_ = UniqueFd(); // frees the port
        const auto client = make_socket(AF_INET, SOCK_STREAM);
        set_option(client, SOL_SOCKET, SO_REUSEADDR, 1);
        const Address from("10.77.0.2", 80);
        ASSERT_EQ(::bind(client.get(), from.get(), from.size), 0);
        EXPECT_NE(connect_error(client, {"10.78.0.2", 22}), 0);
    });
    const auto denied =
        wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY && event.remote_port == 22; });
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->direction, BH_FORWARDED);
}

// Whichever of the two that it takes.
TEST_P(ForwardingTest, AnswersDoNotOutliveTheRuleEither)
{
    constexpr auto lasts = std::chrono::milliseconds(2000);
    ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
    for (const auto last : {inbound, outbound}) {
        auto policy = closed();
        const auto in = [&] { policy.allow(inbound, "10.78.0.2", "udp/53"); };
        const auto out = [&] { policy.allow(outbound, "10.77.0.2", "udp/53"); };
        last == inbound ? (out(), in()) : (in(), out());
        realise(policy.expires_in(lasts));
        const auto expired = std::chrono::steady_clock::now() + lasts;
        UniqueFd resolver, asking;
        peer([&] { resolver = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
        run_in(*behind_, world_->elsewhere, [&] {
            asking = bound(SOCK_DGRAM, {"10.78.0.2", 0});
            EXPECT_EQ(send_to_error(asking, {"10.77.0.2", 53}, "question"), 0);
        });
        const auto question = receive(resolver);
        EXPECT_EQ(reply_error(resolver, question, "answer"), 0);
        EXPECT_EQ(receive(asking).text, "answer");
        std::this_thread::sleep_until(expired + std::chrono::milliseconds(100));
        EXPECT_EQ(reply_error(resolver, question, "late"), 0);
        EXPECT_EQ(receive(asking).text, "");
    }
}

// Root of a container marks what it sends as the guard marks what it has judged, and goes by an address of the host.
TEST_P(ForwardingTest, AMarkFromElsewhereIsNoVerdict)
{
    if (!translates("prerouting", "iifname inner dnat to 10.77.0.2"))
        GTEST_SKIP() << "nftables translates no addresses here";
    realise(closed().allow(inbound, "10.78.0.2", "tcp/80-81"));
    run_in(*behind_, world_->elsewhere, [&] {
        LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(::if_nametoindex("outer")),
                    .attach_point = BPF_TC_EGRESS);
        ASSERT_EQ(bpf_tc_hook_create(&hook), 0);
        ASSERT_TRUE(add_foreign_filter("outer", judged_mark(options())));
        EXPECT_NE(tcp_error({"10.78.0.1", 81}), 0);
    });
    const auto denied = denial(IPPROTO_TCP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->direction, BH_FORWARDED);
    EXPECT_EQ(std::memcmp(&denied->remote, abi_address("10.77.0.2").byte, 16), 0);
}

TEST_P(ForwardingTest, TranslatedAddressesChangeNothing)
{
    if (!translates("postrouting", "oifname bh0 masquerade"))
        GTEST_SKIP() << "nftables translates no addresses here";
    realise(only_http());
    EXPECT_EQ(from_behind(80), 0);
    EXPECT_NE(from_behind(81), 0);
    const auto denied = denial(IPPROTO_TCP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(std::memcmp(&denied->local, abi_address("10.78.0.2").byte, 16), 0) << "the container, not the host";
}

} // namespace
} // namespace bulkhead::test
