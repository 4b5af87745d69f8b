// SPDX-License-Identifier: Apache-2.0
// Containers that speak in the host's name.
#include "tests/bpf/forwarding_fixture.h"
#include "tests/bpf/frames.h"

#include <netinet/in.h>

#include <cerrno>
#include <chrono>
#include <thread>

namespace bulkhead::test {
namespace {

class Masqueraded : public ForwardingTest {
protected:
    void SetUp() override
    {
        ForwardingTest::SetUp();
        if (IsSkipped() || HasFatalFailure())
            return;
        ip(world_->wire.guarded, "addr add fd78::1/64 dev inner nodad");
        ip(*behind_, "addr add fd78::2/64 dev outer nodad");
        ip(*behind_, "route add default via fd78::1");
        ip(world_->wire.guarded, "route add 10.99.0.0/24 via 10.77.0.2");
        ip(world_->wire.peer, "route add unreachable 10.99.0.9/32");
        peer([&] { ASSERT_TRUE(run("sysctl -qw net.ipv4.ip_forward=1")); });
        bool done = false;
        guarded([&] {
            done = run("sysctl -qw net.ipv6.conf.all.forwarding=1 && nft add table inet n && "
                       "nft 'add chain inet n c { type nat hook postrouting priority 100; }' && "
                       "nft add rule inet n c oifname bh0 masquerade");
        });
        ASSERT_TRUE(datapath_->follow_interfaces());
        if (!done)
            GTEST_SKIP() << "nftables translates no addresses here";
    }
    static TestPolicy container_may(std::string_view service)
    {
        return closed()
            .allow(inbound, "10.78.0.2", service)
            .allow(outbound, "10.77.0.2", service)
            .allow(outbound, "10.99.0.9", service)
            .allow(inbound, "fd78::2", service)
            .allow(outbound, "fd77::2", service);
    }
    template <class Act>
    void behind(Act act) const
    {
        run_in(*behind_, world_->elsewhere, act);
    }
    // Of a datagram to where nobody listens; 0: nothing was heard of it.
    [[nodiscard]] int told_of_closed_port(const Address& to) const
    {
        int error = -1;
        behind([&] {
            const auto client = make_socket(to.family(), SOCK_DGRAM);
            ASSERT_EQ(connect_error(client, to), 0);
            ASSERT_EQ(send_error(client), 0);
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
            error = send_error(client);
        });
        return error;
    }
    // By the peer, to the host, which has asked for nothing itself.
    void peer_sends(const std::string& icmp) const
    {
        peer([&] { EXPECT_EQ(send_frame_ip("10.77.0.1", icmp), 0); });
    }
};

INSTANTIATE_TEST_SUITE_P(, Masqueraded, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "clsact" : "tcx"; });

TEST_P(Masqueraded, PingsAreAnswered)
{
    realise(container_may("icmp/8").allow(inbound, "fd78::2", "icmpv6/128").allow(outbound, "fd77::2", "icmpv6/128"));
    behind([&] {
        EXPECT_TRUE(pings("10.77.0.2"));
        EXPECT_TRUE(pings("fd77::2"));
        EXPECT_TRUE(pings("-s 4000 10.77.0.2")) << "in pieces";
    });
    EXPECT_FALSE(denial_seen(IPPROTO_ICMP));
    EXPECT_FALSE(denial_seen(IPPROTO_ICMPV6));
}

TEST_P(Masqueraded, ErrorsReachWhoTheyAreFor)
{
    realise(container_may("udp/9"));
    EXPECT_EQ(told_of_closed_port({"10.77.0.2", 9}), ECONNREFUSED);
    EXPECT_EQ(told_of_closed_port({"fd77::2", 9}), ECONNREFUSED);
    realise(container_may("tcp/80"));
    behind([&] { EXPECT_EQ(tcp_error({"10.99.0.9", 80}), EHOSTUNREACH); });
    EXPECT_FALSE(denial_seen(IPPROTO_ICMP));
    EXPECT_FALSE(denial_seen(IPPROTO_ICMPV6));
}

TEST_P(Masqueraded, NothingElseComesInByThat)
{
    realise(container_may("icmp/8").allow(inbound, "10.78.0.2", "udp/9").allow(outbound, "10.77.0.2", "udp/9"));
    auto answer = icmp_echo(4711);
    answer[0] = 0;
    answer = with_icmp_checksum(answer);
    behind([&] { EXPECT_EQ(send_frame_ip("10.77.0.2", icmp_echo(4711)), 0); });
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    peer_sends(answer);
    EXPECT_FALSE(denial_seen(IPPROTO_ICMP)) << "it was asked for";
    peer_sends(icmp_echo(4711));
    EXPECT_TRUE(denial_seen(IPPROTO_ICMP)) << "a question of its own";
    auto other = icmp_echo(4712);
    other[0] = 0;
    peer_sends(with_icmp_checksum(other));
    EXPECT_TRUE(denial_seen(IPPROTO_ICMP)) << "an answer to nobody";
    peer_sends(icmp_error(3, 1, tcp_packet("10.77.0.1", "10.77.0.2", 40000, 80, tcp_syn)));
    EXPECT_TRUE(denial_seen(IPPROTO_ICMP)) << "about what was not sent";
    realise(closed());
    peer_sends(answer);
    const auto denied = denial(IPPROTO_ICMP);
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->direction, BH_INBOUND) << "under another policy not even as far as to the translation";
}

} // namespace
} // namespace bulkhead::test
