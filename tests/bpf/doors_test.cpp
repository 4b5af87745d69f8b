// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/fixture.h"

#include <netinet/in.h>

#include <cerrno>

namespace bulkhead::test {
namespace {

class Doors : public BpfTest {};

TEST_F(Doors, WithoutAPolicyNothingIsRefused)
{
    UniqueFd server;
    guarded([&] { server = listening({"10.77.0.1", 80}); });
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0); });
}

TEST_F(Doors, OutboundTcpIsJudgedAtConnect)
{
    realise(TestPolicy().default_action(outbound, refuse).allow(outbound, "10.77.0.2", "tcp/80"));
    UniqueFd http, ssh, other;
    peer([&] {
        http = listening({"10.77.0.2", 80});
        ssh = listening({"10.77.0.2", 22});
        other = listening({"10.77.0.3", 80});
    });
    guarded([&] {
        EXPECT_EQ(tcp_error({"10.77.0.2", 80}), 0);
        EXPECT_EQ(tcp_error({"10.77.0.2", 22}), EPERM);
        EXPECT_EQ(tcp_error({"10.77.0.3", 80}), EPERM);
    });
    // The policy is the cgroup's: others on the host are not touched.
    outsider([&] { EXPECT_EQ(tcp_error({"10.77.0.2", 22}), 0); });
}

TEST_F(Doors, OutboundTcpOverIpv6IsJudgedAtConnect)
{
    realise(TestPolicy().default_action(outbound, refuse).allow(outbound, "fd77::2", "tcp/80"));
    UniqueFd http, other;
    peer([&] {
        http = listening({"fd77::2", 80});
        other = listening({"fd77::3", 80});
    });
    guarded([&] {
        EXPECT_EQ(tcp_error({"fd77::2", 80}), 0);
        EXPECT_EQ(tcp_error({"fd77::3", 80}), EPERM);
        EXPECT_EQ(tcp_error({"fd77::2", 81}), EPERM);
    });
}

TEST_F(Doors, Ipv4MappedAddressIsTheIpv4Address)
{
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .allow(outbound, "10.77.0.2", "tcp/80")
                .allow(outbound, "10.77.0.2", "udp/53"));
    UniqueFd server;
    peer([&] { server = listening({"10.77.0.2", 80}); });
    guarded([&] {
        EXPECT_EQ(tcp_error({"::ffff:10.77.0.2", 80}), 0);
        EXPECT_EQ(tcp_error({"::ffff:10.77.0.3", 80}), EPERM);
        EXPECT_EQ(udp_connect_error({"::ffff:10.77.0.2", 53}), 0);
        EXPECT_EQ(udp_connect_error({"::ffff:10.77.0.3", 53}), EPERM);
        const UniqueFd unconnected = make_socket(AF_INET6, SOCK_DGRAM);
        EXPECT_EQ(send_to_error(unconnected, {"::ffff:10.77.0.2", 53}), 0);
        EXPECT_EQ(send_to_error(unconnected, {"::ffff:10.77.0.3", 53}), EPERM);
    });
}

TEST_F(Doors, InboundTcpIsRefusedLikeAClosedPort)
{
    realise(TestPolicy()
                .default_action(inbound, refuse)
                .allow(inbound, "10.77.0.2", "tcp/80")
                .allow(inbound, "fd77::2", "tcp/80"));
    UniqueFd v4, v6, ssh;
    guarded([&] {
        v4 = listening({"10.77.0.1", 80});
        v6 = listening({"fd77::1", 80});
        ssh = listening({"0.0.0.0", 22});
    });
    peer([&] {
        EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0);
        const UniqueFd v6_known = bound(SOCK_STREAM, {"fd77::2", 0});
        EXPECT_EQ(connect_error(v6_known, {"fd77::1", 80}), 0);
        EXPECT_EQ(tcp_error({"10.77.0.1", 22}), ECONNREFUSED);
        const UniqueFd v4_other = bound(SOCK_STREAM, {"10.77.0.3", 0});
        EXPECT_EQ(connect_error(v4_other, {"10.77.0.1", 80}), ECONNREFUSED);
        const UniqueFd v6_other = bound(SOCK_STREAM, {"fd77::3", 0});
        EXPECT_EQ(connect_error(v6_other, {"fd77::1", 80}), ECONNREFUSED);
    });
}

TEST_F(Doors, DualStackListenerIsJudgedByThePacketsFamily)
{
    realise(TestPolicy().default_action(inbound, refuse).allow(inbound, "10.77.0.2", "tcp/80"));
    UniqueFd server;
    guarded([&] { server = listening({"::", 80}); });
    peer([&] {
        EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0);
        EXPECT_EQ(tcp_error({"fd77::1", 80}), ECONNREFUSED);
    });
}

TEST_F(Doors, InboundToPortsOfOthersIsNotJudgedBelowTheRootCgroup)
{
    realise(TestPolicy().default_action(inbound, refuse));
    UniqueFd theirs, ours;
    outsider([&] { theirs = listening({"10.77.0.1", 8080}); });
    guarded([&] { ours = listening({"10.77.0.1", 8081}); });
    peer([&] {
        EXPECT_EQ(tcp_error({"10.77.0.1", 8080}), 0);
        EXPECT_EQ(tcp_error({"10.77.0.1", 8081}), ECONNREFUSED);
    });
}

TEST_F(Doors, V6OnlyListenerDoesNotSpeakForIpv4)
{
    realise(TestPolicy().default_action(inbound, refuse));
    UniqueFd ours, theirs;
    guarded([&] {
        ours = make_socket(AF_INET6, SOCK_STREAM);
        set_option(ours, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        const Address any("::", 80);
        ASSERT_EQ(::bind(ours.get(), any.get(), any.size), 0);
        ASSERT_EQ(::listen(ours.get(), 8), 0);
    });
    outsider([&] { theirs = listening({"0.0.0.0", 80}); });
    peer([&] {
        EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0);
        EXPECT_EQ(tcp_error({"fd77::1", 80}), ECONNREFUSED);
    });
}

TEST_F(Doors, ListenerWithoutBindIsKnown)
{
    realise(TestPolicy().default_action(inbound, refuse));
    UniqueFd server;
    std::uint16_t port = 0;
    guarded([&] {
        server = make_socket(AF_INET, SOCK_STREAM);
        ASSERT_EQ(::listen(server.get(), 8), 0);
        port = port_of(server);
    });
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", port}), ECONNREFUSED); });
}

TEST_F(Doors, DenyWinsOverAllow)
{
    realise(TestPolicy()
                .default_action(outbound, permit)
                .allow(outbound, "10.77.0.2", "tcp/80")
                .deny(outbound, "10.77.0.0/24", "tcp/79-81"));
    UniqueFd server;
    peer([&] { server = listening({"0.0.0.0", 80}); });
    guarded([&] { EXPECT_EQ(tcp_error({"10.77.0.2", 80}), EPERM); });
    realise(TestPolicy()
                .default_action(outbound, permit)
                .rule(policy::HostAction::failsafe, outbound, "10.77.0.2", "tcp/80")
                .deny(outbound, "any", "tcp/80"));
    guarded([&] {
        EXPECT_EQ(tcp_error({"10.77.0.2", 80}), 0);
        EXPECT_EQ(tcp_error({"10.77.0.3", 80}), EPERM);
    });
}

TEST_F(Doors, LoopbackIsNotJudged)
{
    realise(TestPolicy().default_action(outbound, refuse).default_action(inbound, refuse));
    guarded([&] {
        const UniqueFd v4 = listening({"127.0.0.1", 80});
        const UniqueFd v6 = listening({"::1", 80});
        const UniqueFd any = listening({"0.0.0.0", 81});
        EXPECT_EQ(tcp_error({"127.0.0.1", 80}), 0);
        EXPECT_EQ(tcp_error({"::1", 80}), 0);
        EXPECT_EQ(tcp_error({"::ffff:127.0.0.1", 80}), 0);
        EXPECT_EQ(tcp_error({"0.0.0.0", 81}), 0) << "the unspecified address is the host itself";
        const UniqueFd udp = bound(SOCK_DGRAM, {"127.0.0.1", 53});
        EXPECT_EQ(send_to_error(make_socket(AF_INET, SOCK_DGRAM), {"127.0.0.1", 53}), 0);
        EXPECT_EQ(receive(udp).text, "x");
    });
    for (const bh_event& event : drain())
        EXPECT_TRUE(event.type == BH_EVENT_LISTEN || event.type == BH_EVENT_UNLISTEN) << unsigned{event.type};
}

TEST_F(Doors, ShadowPlaneOnlyReports)
{
    TestPolicy policy;
    policy.default_action(outbound, refuse, policy::plane_bit(policy::Plane::shadow));
    policy.default_action(inbound, refuse, policy::plane_bit(policy::Plane::shadow));
    realise(policy);
    UniqueFd theirs, ours;
    peer([&] { theirs = listening({"10.77.0.2", 80}); });
    guarded([&] {
        ours = listening({"10.77.0.1", 80});
        EXPECT_EQ(tcp_error({"10.77.0.2", 80}), 0);
    });
    const auto out = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
    ASSERT_TRUE(out);
    EXPECT_EQ(out->verdict, BH_ALLOWED);
    EXPECT_EQ(out->shadow_verdict, BH_DENIED);
    EXPECT_EQ(out->shadow_reason, BH_REASON_DEFAULT);
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0); });
    const auto in =
        wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY && event.direction == BH_INBOUND; });
    ASSERT_TRUE(in);
    EXPECT_EQ(in->verdict, BH_ALLOWED);
    EXPECT_EQ(in->shadow_verdict, BH_DENIED);
    const auto counters = datapath_->counters();
    EXPECT_EQ(counters.at("would_deny_out"), 1U);
    EXPECT_GE(counters.at("would_deny_in"), 1U);
    EXPECT_EQ(counters.at("denied_out"), 0U);
}

} // namespace
} // namespace bulkhead::test
