// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/failsafe.h"

#include "common/policy/plane_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

using policy::Direction;
using policy::Plane;
using policy::Protocol;
using ::testing::ElementsAre;

FailsafeInputs everything()
{
    FailsafeInputs inputs;
    inputs.management = {*Cidr::parse("192.0.2.0/24")};
    inputs.controller = {*IpAddress::parse("198.51.100.1")};
    inputs.controller_port = 7443;
    inputs.resolvers = {*IpAddress::parse("127.0.0.53"), *IpAddress::parse("198.51.100.53")};
    inputs.ntp = {*IpAddress::parse("198.51.100.123")};
    return inputs;
}

// A policy that denies everything by default and by rule.
policy::HostPolicy locked()
{
    policy::HostPolicy policy;
    policy.segments = {"vault"};
    for (auto& plane : policy.defaults)
        for (auto& fallback : plane)
            fallback = {policy::Action::deny, "vault"};
    for (const auto direction : {Direction::outbound, Direction::inbound}) {
        policy::HostRule rule;
        rule.id = "vault/nothing";
        rule.direction = direction;
        rule.action = policy::HostAction::deny;
        rule.peers.any = true;
        rule.services = {{Protocol::tcp, {}}, {Protocol::udp, {}}};
        policy.rules.push_back(rule);
    }
    return policy;
}

class Judge {
public:
    explicit Judge(const FailsafeInputs& inputs, policy::HostPolicy policy = locked())
        : policy_(with_failsafes(std::move(policy), failsafe_rules(inputs))),
          image_(*policy::lower(policy_, Plane::active, {}))
    {}
    std::string operator()(Direction direction, Protocol protocol, const char* peer, std::uint16_t port) const
    {
        policy::ClassVector classes;
        classes.set(0);
        const auto verdict =
            policy::judge(image_, policy_, {direction, protocol, *IpAddress::parse(peer), port}, classes);
        if (verdict.verdict == BH_DENIED)
            return "denied";
        return verdict.rule ? policy_.rules[*verdict.rule].id : "allowed";
    }

private:
    policy::HostPolicy policy_;
    policy::PlaneImage image_;
};

TEST(Failsafe, ComesBeforeEveryDeny)
{
    const Judge judge(everything());
    EXPECT_EQ(judge(Direction::inbound, Protocol::tcp, "192.0.2.7", 22), "failsafe/ssh");
    EXPECT_EQ(judge(Direction::outbound, Protocol::tcp, "198.51.100.1", 7443), "failsafe/controller");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "198.51.100.53", 53), "failsafe/dns");
    EXPECT_EQ(judge(Direction::outbound, Protocol::tcp, "198.51.100.53", 53), "failsafe/dns");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "198.51.100.123", 123), "failsafe/ntp");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "203.0.113.1", 67), "failsafe/dhcp");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "ff02::1:2", 547), "failsafe/dhcp");
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "203.0.113.1", 68), "failsafe/dhcp");
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "fe80::1", 546), "failsafe/dhcp");
}

TEST(Failsafe, OpensNoMoreThanItNames)
{
    const Judge judge(everything());
    EXPECT_EQ(judge(Direction::inbound, Protocol::tcp, "203.0.113.1", 22), "denied"); // not management
    EXPECT_EQ(judge(Direction::outbound, Protocol::tcp, "192.0.2.7", 22), "denied");  // inbound only
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "192.0.2.7", 22), "denied");   // tcp only
    EXPECT_EQ(judge(Direction::outbound, Protocol::tcp, "198.51.100.1", 443), "denied");
    EXPECT_EQ(judge(Direction::outbound, Protocol::tcp, "198.51.100.2", 7443), "denied");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "203.0.113.1", 53), "denied"); // not a resolver
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "198.51.100.53", 53), "denied");
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "203.0.113.1", 67), "denied");
}

TEST(Failsafe, NamedDhcpServersAreTheOnlyOnes)
{
    auto inputs = everything();
    inputs.dhcp_servers = {*IpAddress::parse("192.0.2.1")};
    const Judge judge(inputs);
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "192.0.2.1", 67), "failsafe/dhcp");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "255.255.255.255", 67), "failsafe/dhcp");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "203.0.113.1", 67), "denied");
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "192.0.2.1", 68), "failsafe/dhcp");
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "203.0.113.1", 68), "denied");
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "fe80::1", 546), "failsafe/dhcp");
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "2001:db8::1", 546), "denied");
}

TEST(Failsafe, WhatIsNotWantedIsNotThere)
{
    auto inputs = everything();
    inputs.without = {"ssh", "dhcp"};
    const Judge judge(inputs);
    EXPECT_EQ(judge(Direction::inbound, Protocol::tcp, "192.0.2.7", 22), "denied");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "203.0.113.1", 67), "denied");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "198.51.100.53", 53), "failsafe/dns");
}

TEST(Failsafe, ManagementFromEverywhereIsAnyPeer)
{
    FailsafeInputs inputs;
    inputs.management = {*Cidr::parse("0.0.0.0/0"), *Cidr::parse("::/0")};
    inputs.dhcp = false;
    const auto rules = failsafe_rules(inputs);
    ASSERT_EQ(rules.size(), 1U);
    EXPECT_TRUE(rules[0].peers.any);
    const Judge judge(inputs);
    EXPECT_EQ(judge(Direction::inbound, Protocol::tcp, "203.0.113.1", 22), "failsafe/ssh");
    EXPECT_EQ(judge(Direction::inbound, Protocol::tcp, "2001:db8::1", 22), "failsafe/ssh");
}

TEST(Failsafe, OnlyIpv4EverywhereIsNotAny)
{
    FailsafeInputs inputs;
    inputs.management = {*Cidr::parse("0.0.0.0/0")};
    const Judge judge(inputs);
    EXPECT_EQ(judge(Direction::inbound, Protocol::tcp, "203.0.113.1", 22), "failsafe/ssh");
    EXPECT_EQ(judge(Direction::inbound, Protocol::tcp, "2001:db8::1", 22), "denied");
}

TEST(Failsafe, WhatHasNobodyGivesNoRule)
{
    FailsafeInputs inputs;
    inputs.dhcp = false;
    inputs.controller_port = 7443;
    EXPECT_TRUE(failsafe_rules(inputs).empty());
}

// `loopback: deny` must not cut a host off from its local resolver, nor from a controller on the same host.
TEST(Failsafe, OnLoopbackItIsGoodAtBothEnds)
{
    auto inputs = everything();
    inputs.controller = {*IpAddress::parse("::1")};
    auto policy = locked();
    policy.loopback[0] = policy.loopback[1] = {policy::Action::deny, "vault"};
    const Judge judge(inputs, policy);
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "127.0.0.53", 53), "failsafe/dns");
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "127.0.0.1", 53), "failsafe/dns");
    EXPECT_EQ(judge(Direction::outbound, Protocol::tcp, "::1", 7443), "failsafe/controller");
    EXPECT_EQ(judge(Direction::inbound, Protocol::tcp, "::1", 7443), "failsafe/controller");
    EXPECT_EQ(judge(Direction::outbound, Protocol::udp, "127.0.0.54", 53), "denied");
    EXPECT_EQ(judge(Direction::outbound, Protocol::tcp, "127.0.0.1", 7443), "denied");
    EXPECT_EQ(judge(Direction::inbound, Protocol::udp, "198.51.100.53", 53), "denied") << "on loopback only";
    EXPECT_EQ(judge(Direction::outbound, Protocol::tcp, "127.0.0.1", 80), "denied");
}

TEST(Failsafe, WithoutAWordAboutLoopbackEverythingGoesThere)
{
    const Judge judge(everything());
    EXPECT_EQ(judge(Direction::outbound, Protocol::tcp, "127.0.0.1", 22), "allowed");
    EXPECT_EQ(judge(Direction::inbound, Protocol::tcp, "::1", 22), "allowed");
}

TEST(Failsafe, RulesAreInOrderAmongTheOthers)
{
    auto policy = locked();
    for (auto& rule : policy.rules)
        rule.id = "apps/nothing"; // sorts before "failsafe/"
    policy = with_failsafes(std::move(policy), failsafe_rules(everything()));
    std::vector<std::pair<std::string, Direction>> order;
    for (const auto& rule : policy.rules)
        order.emplace_back(rule.id, rule.direction);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    EXPECT_EQ(order.size(), 9U);
}

} // namespace
} // namespace bulkhead::agent
