// SPDX-License-Identifier: Apache-2.0
#include "common/core/clock.h"
#include "tests/bpf/forwarding_fixture.h"
#include "tests/bpf/frames.h"

#include <net/ethernet.h>
#include <netinet/in.h>

#include <array>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>

namespace bulkhead::test {
namespace {

// The guard's mark of so many turns ago.
int mark_of(const agent::DatapathOptions& options, __u32 turns_ago = 0)
{
    const UniqueFd map(bpf_obj_get((agent::pin_folder(options) + "/maps/bh_mark_secret").c_str()));
    const __u32 zero = 0;
    bh_mark_secret secret{};
    EXPECT_EQ(bpf_map_lookup_elem(map.get(), &zero, &secret), 0);
    EXPECT_NE(secret.word[0] | secret.word[1], 0U);
    const auto turn = system_clock().monotonic().count() >> BH_MARK_TURN_SHIFT;
    return static_cast<int>(bh_mark_of(&secret, static_cast<__u32>(turn) - turns_ago));
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
        ASSERT_TRUE(add_foreign_filter("outer", BPF_TC_EGRESS, mark_of(options())));
        EXPECT_NE(tcp_error({"10.78.0.1", 81}), 0);
    });
    const auto denied = denial(IPPROTO_TCP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->direction, BH_FORWARDED);
    EXPECT_EQ(std::memcmp(&denied->remote, abi_address("10.77.0.2").byte, 16), 0);
}

// Who is told the mark has what he sends taken for judged.
TEST_P(ForwardingTest, TheMarkIsNotShownToContainers)
{
    ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
    realise(TestPolicy().allow(inbound, "10.78.0.2", "tcp/80"));
    run_in(*behind_, world_->elsewhere, [&] {
        LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(::if_nametoindex("outer")),
                    .attach_point = BPF_TC_INGRESS);
        ASSERT_EQ(bpf_tc_hook_create(&hook), 0);
        std::array<bpf_insn, 5> code{}; // which lets nothing in that is marked
        code[0].code = BPF_LDX | BPF_MEM | BPF_W;
        code[0].dst_reg = BPF_REG_1;
        code[0].src_reg = BPF_REG_1;
        code[0].off = offsetof(__sk_buff, tc_index);
        code[1].code = BPF_ALU64 | BPF_MOV | BPF_K;
        code[1].imm = -1; // TC_ACT_UNSPEC
        code[2].code = BPF_JMP | BPF_JEQ | BPF_K;
        code[2].dst_reg = BPF_REG_1;
        code[2].off = 1;
        code[3].code = BPF_ALU64 | BPF_MOV | BPF_K;
        code[3].imm = 2; // TC_ACT_SHOT
        code[4].code = BPF_JMP | BPF_EXIT;
        const UniqueFd program(
            bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "unmarked", "GPL", code.data(), code.size(), nullptr));
        LIBBPF_OPTS(bpf_tc_opts, filter, .prog_fd = program.get());
        ASSERT_EQ(bpf_tc_attach(&hook, &filter), 0);
    });
    EXPECT_EQ(from_behind(80), 0);
}

// Where the packet left, it would be judged in the host's name.
TEST_P(ForwardingTest, OnlyAMarkOfTheLastSecondsCounts)
{
    if (!translates("postrouting", "oifname bh0 masquerade"))
        GTEST_SKIP() << "nftables translates no addresses here";
    realise(only_http());
    guarded([&] { // what comes after the guard says another mark than it
        LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(::if_nametoindex("inner")),
                    .attach_point = BPF_TC_INGRESS);
        const int made = bpf_tc_hook_create(&hook);
        ASSERT_TRUE(made == 0 || made == -EEXIST);
    });
    const auto passes_with = [&](int mark) {
        guarded([&] { EXPECT_TRUE(add_foreign_filter("inner", BPF_TC_INGRESS, mark)); });
        return from_behind(80) == 0;
    };
    EXPECT_TRUE(passes_with(mark_of(options())));
    EXPECT_FALSE(passes_with(mark_of(options(), 3)));
    EXPECT_FALSE(passes_with(0));
    EXPECT_TRUE(passes_with(mark_of(options())));
}

TEST(Marks, AreDifferentInEachTurnAndForEachSecret)
{
    const bh_mark_secret one{{1, 2}}, other{{1, 3}};
    std::set<__u64> seen;
    int alike = 0;
    for (__u32 turn = 0; turn < 4096; ++turn) {
        EXPECT_NE(bh_mark_of(&one, turn), 0U);
        seen.insert(bh_mark_of(&one, turn));
        alike += bh_mark_of(&one, turn) == bh_mark_of(&other, turn) ? 1 : 0;
    }
    EXPECT_GT(seen.size(), 3900U);
    EXPECT_LT(alike, 5);
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

// Connections that were there before policy was.
class ForwardedBefore : public ForwardingTest {
protected:
    void SetUp() override
    {
        ForwardingTest::SetUp();
        if (IsSkipped() || HasFatalFailure())
            return;
        ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
    }
    // From behind to the peer, or the other way.
    void connect_out()
    {
        run_in(*behind_, world_->elsewhere, [&] {
            called_by_ = make_socket(AF_INET, SOCK_STREAM);
            ASSERT_EQ(connect_error(called_by_, {"10.77.0.2", 80}), 0);
        });
        called_ = accepted(http_);
    }
    void connect_in()
    {
        UniqueFd listener;
        run_in(*behind_, world_->elsewhere, [&] { listener = listening({"10.78.0.2", 22}); });
        peer([&] {
            called_by_ = make_socket(AF_INET, SOCK_STREAM);
            ASSERT_EQ(connect_error(called_by_, {"10.78.0.2", 22}), 0);
        });
        called_ = accepted(listener);
    }
    [[nodiscard]] static bool arrives(const UniqueFd& from, const UniqueFd& to)
    {
        EXPECT_EQ(send_error(from), 0);
        return !receive(to, std::chrono::milliseconds(1500)).text.empty();
    }
    static TestPolicy container_calls() { return calls(closed(), policy::both_planes); }
    static TestPolicy calls(TestPolicy policy, std::uint8_t planes)
    {
        return policy.rule(policy::HostAction::allow, inbound, "10.78.0.2", "tcp/1-65535", 0, planes)
            .rule(policy::HostAction::allow, outbound, "10.77.0.2", "tcp/1-65535", 0, planes);
    }
    static TestPolicy peer_calls()
    {
        return closed().allow(inbound, "10.77.0.2", "tcp/22").allow(outbound, "10.78.0.2", "tcp/22");
    }
    void in_force_since(std::uint64_t instant) const
    {
        const UniqueFd map(bpf_obj_get((agent::pin_folder(options()) + "/maps/bh_in_force_since").c_str()));
        const __u32 zero = 0;
        ASSERT_EQ(bpf_map_update_elem(map.get(), &zero, &instant, BPF_ANY), 0);
    }

    UniqueFd called_by_, called_;
};

INSTANTIATE_TEST_SUITE_P(, ForwardedBefore, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "clsact" : "tcx"; });

TEST_P(ForwardedBefore, GoOnWhoeverSpeaksFirst)
{
    connect_out();
    realise(container_calls());
    EXPECT_TRUE(arrives(called_, called_by_)) << "an answer";
    EXPECT_TRUE(arrives(called_by_, called_));
    EXPECT_TRUE(arrives(called_, called_by_));
    EXPECT_FALSE(denial_seen(IPPROTO_TCP));
}

TEST_P(ForwardedBefore, GoOnThatWereCalledFromOutside)
{
    connect_in();
    realise(peer_calls());
    EXPECT_TRUE(arrives(called_, called_by_));
    EXPECT_FALSE(denial_seen(IPPROTO_TCP));
}

TEST_P(ForwardedBefore, EndWhenNoSideMayCall)
{
    connect_out();
    realise(closed().allow(outbound, "10.77.0.2", "tcp/80"));
    EXPECT_FALSE(arrives(called_, called_by_));
    EXPECT_TRUE(denial_seen(IPPROTO_TCP));
}

TEST_P(ForwardedBefore, AreWhatTheyAreInATest)
{
    constexpr auto shadow = policy::plane_bit(policy::Plane::shadow);
    connect_out();
    realise(
        calls(TestPolicy().default_action(inbound, refuse, shadow).default_action(outbound, refuse, shadow), shadow));
    EXPECT_TRUE(arrives(called_, called_by_));
    EXPECT_FALSE(denial_seen(IPPROTO_TCP)) << "none would be";
    realise(container_calls());
    EXPECT_TRUE(arrives(called_, called_by_));
    EXPECT_FALSE(denial_seen(IPPROTO_TCP));
}

// A test of what lets both ends begin cannot know which one did.
TEST_P(ForwardedBefore, AreTurnedRoundWhenPolicyTellsWho)
{
    constexpr auto shadow = policy::plane_bit(policy::Plane::shadow);
    connect_out();
    realise(TestPolicy().default_action(inbound, permit, shadow).default_action(outbound, permit, shadow));
    EXPECT_TRUE(arrives(called_, called_by_));
    realise(container_calls());
    EXPECT_TRUE(arrives(called_, called_by_));
    EXPECT_TRUE(arrives(called_by_, called_));
    EXPECT_FALSE(denial_seen(IPPROTO_TCP));
}

// Nothing is guessed of a connection that was seen to begin: the policy after it holds.
TEST_P(ForwardedBefore, AreNoneOfThoseThatTheGuardSawBegin)
{
    realise(peer_calls());
    connect_in();
    EXPECT_TRUE(arrives(called_by_, called_));
    realise(container_calls()); // which lets the one that was called call
    EXPECT_FALSE(arrives(called_by_, called_));
    EXPECT_TRUE(denial_seen(IPPROTO_TCP));
    EXPECT_FALSE(arrives(called_by_, called_)) << "again";
    EXPECT_FALSE(arrives(called_, called_by_)) << "and the other way";
    realise(peer_calls());
    EXPECT_FALSE(receive(called_, std::chrono::seconds(10)).text.empty()) << "what was kept back, sent again";
}

// What could begin a connection, or ask a port whether it is open, says nothing of one that was there.
TEST_P(ForwardedBefore, AreNotWhatProbesSend)
{
    realise(container_calls());
    Sniffer behind(*behind_);
    std::uint16_t port = 1000;
    const auto passes = [&](std::uint8_t flags) {
        ++port;
        peer([&] { EXPECT_EQ(send_frame(tcp_packet("10.77.0.2", "10.78.0.2", 80, port, flags)), 0); });
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        return behind.saw_tcp("10.78.0.2", port);
    };
    for (const int flags : {0, TH_SYN, TH_SYN | TH_ACK, TH_FIN, TH_RST, TH_FIN | TH_PUSH | TH_URG})
        EXPECT_FALSE(passes(static_cast<std::uint8_t>(flags))) << flags;
    for (const int flags : {TH_ACK, TH_FIN | TH_ACK, TH_RST | TH_ACK})
        EXPECT_TRUE(passes(static_cast<std::uint8_t>(flags))) << flags;
    in_force_since(0);
    (void)drain();
    EXPECT_FALSE(passes(TH_ACK)) << "later";
    EXPECT_TRUE(denial_seen(IPPROTO_TCP));
}

// Of the ends of one that was refused, the other may call.
TEST_P(ForwardedBefore, LeaveNothingThatRefusesANewOne)
{
    realise(peer_calls());
    UniqueFd listener;
    run_in(*behind_, world_->elsewhere, [&] { listener = listening({"10.78.0.2", 22}); });
    peer([&] {
        called_by_ = make_socket(AF_INET, SOCK_STREAM);
        set_option(called_by_, SOL_SOCKET, SO_REUSEADDR, 1);
        const Address from("10.77.0.2", 4000);
        ASSERT_EQ(::bind(called_by_.get(), from.get(), from.size), 0);
        ASSERT_EQ(connect_error(called_by_, {"10.78.0.2", 22}), 0);
    });
    called_ = accepted(listener);
    realise(container_calls());
    EXPECT_FALSE(arrives(called_by_, called_));
    const auto abort = [](UniqueFd& socket) {
        const linger at_once{1, 0};
        ASSERT_EQ(::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
        socket = UniqueFd();
    };
    abort(called_by_);
    abort(called_);
    listener = UniqueFd();
    UniqueFd server;
    peer([&] { server = listening({"10.77.0.2", 4000}); });
    run_in(*behind_, world_->elsewhere, [&] {
        const auto client = make_socket(AF_INET, SOCK_STREAM);
        set_option(client, SOL_SOCKET, SO_REUSEADDR, 1);
        const Address from("10.78.0.2", 22);
        ASSERT_EQ(::bind(client.get(), from.get(), from.size), 0);
        EXPECT_EQ(connect_error(client, {"10.77.0.2", 4000}), 0);
    });
}

// A host that has no address yet, and forwards: to addresses that another network has, that its own has, and to which
// there is no way.
TEST_P(ForwardingTest, ADhcpClientHearsWhatItIsOffered)
{
    UniqueFd client; // as all of them listen
    guarded([&] { client = UniqueFd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_IP))); });
    ASSERT_TRUE(client);
    UniqueFd other;
    run_in(*behind_, world_->elsewhere, [&] { other = bound(SOCK_DGRAM, {"10.78.0.2", 68}); });
    const auto offer_of = [](std::string_view address) {
        const std::array<std::uint16_t, 4> header{htons(67), htons(68), htons(9), 0};
        return ip_packet("10.77.0.2", address, IPPROTO_UDP,
                         std::string(reinterpret_cast<const char*>(header.data()), 8) + "x");
    };
    for (const char* offered : {"10.78.0.2", "10.77.0.200", "10.99.0.1"}) {
        const auto offer = offer_of(offered);
        realise(closed().allow(inbound, "any", "udp/68"));
        for (int i = 0; i < 2; ++i) {
            peer([&] { EXPECT_EQ(send_frame(offer), 0); });
            EXPECT_EQ(receive(client).text, offer) << offered;
        }
        EXPECT_FALSE(denial_seen(IPPROTO_UDP));
        realise(closed());
        peer([&] { EXPECT_EQ(send_frame(offer), 0); });
        EXPECT_EQ(receive(client).text, "") << offered;
        EXPECT_TRUE(denial(IPPROTO_UDP));
    }
    EXPECT_EQ(receive(other).text, "") << "is not forwarded";
    realise(closed().allow(inbound, "10.77.0.2", "udp/68").allow(outbound, "10.78.0.2", "udp/68"));
    peer([&] { EXPECT_EQ(send_frame(offer_of("10.78.0.2")), 0); });
    EXPECT_EQ(receive(other).text, "x") << "but where policy says so";
}

TEST_P(ForwardingTest, ADhcpClientBehindTheHostRenewsItsLease)
{
    ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
    realise(closed()
                .allow(inbound, "any", "udp/68")
                .allow(inbound, "10.78.0.2", "udp/67")
                .allow(outbound, "10.77.0.2", "udp/67"));
    UniqueFd client, server;
    peer([&] { server = bound(SOCK_DGRAM, {"10.77.0.2", 67}); });
    run_in(*behind_, world_->elsewhere, [&] {
        client = bound(SOCK_DGRAM, {"10.78.0.2", 68});
        ASSERT_EQ(send_to_error(client, {"10.77.0.2", 67}, "request"), 0);
    });
    const auto request = receive(server);
    EXPECT_EQ(request.text, "request");
    EXPECT_EQ(reply_error(server, request, "lease"), 0);
    EXPECT_EQ(receive(client).text, "lease");
}

} // namespace
} // namespace bulkhead::test
