// SPDX-License-Identifier: Apache-2.0
#include "common/abi/bulkhead.h"
#include "random_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <functional>

namespace bulkhead::wire
{
namespace
{

using ::testing::HasSubstr;

v1::HostPolicy valid_policy()
{
    v1::HostPolicy message;
    auto& rule = *message.add_rules();
    rule.set_id("shop-db/api");
    rule.set_direction(1);
    rule.set_action(v1::HostRule::ALLOW);
    rule.set_planes(3);
    rule.add_cidrs("10.0.0.0/8");
    rule.add_identities(4);
    auto& span = *rule.add_services();
    span.set_protocol(6);
    span.set_first(5432);
    span.set_last(5432);
    rule.set_process_class(1);
    message.add_processes()->set_exe("/usr/bin/postgres");
    for (int i = 0; i < 4; ++i)
        message.add_defaults();
    message.set_sessions("drain 60s");
    return message;
}

RC_GTEST_PROP(HostPolicy, SurvivesTheWire, ())
{
    const auto policy = random_policy();
    v1::HostPolicy received;
    RC_ASSERT(received.ParseFromString(to_wire(policy).SerializeAsString()));
    const auto back = from_wire(received);
    RC_ASSERT(back.has_value());
    RC_ASSERT(*back == policy);
}

TEST(HostPolicy, ValidMessageIsTaken)
{
    const auto policy = from_wire(valid_policy());
    ASSERT_TRUE(policy) << policy.error().message;
    EXPECT_EQ(policy->rules.at(0).id, "shop-db/api");
    EXPECT_EQ(policy->rules[0].direction, policy::Direction::inbound);
    EXPECT_EQ(policy->sessions.drain, std::chrono::seconds(60));
}

TEST(HostPolicy, ListsAreSortedWhateverThePeerSent)
{
    auto message = valid_policy();
    message.mutable_rules(0)->add_identities(2);
    message.add_segments("b");
    message.add_segments("a");
    const auto policy = from_wire(message);
    ASSERT_TRUE(policy);
    EXPECT_THAT(policy->rules[0].peers.identities, testing::ElementsAre(2, 4));
    EXPECT_THAT(policy->segments, testing::ElementsAre("a", "b"));
}

// An agent that knows nothing of expiry knows these actions only, and refuses the policy. If it took such a rule without
// its expiry, it would allow for ever.
TEST(HostPolicy, AnOlderAgentCannotTakeARuleThatExpiresForOneThatDoesNot)
{
    policy::HostPolicy policy;
    policy::HostRule expiring;
    expiring.id = "s/r";
    expiring.services = {{policy::Protocol::tcp, {22, 22}}};
    expiring.expires = WallTime(std::chrono::seconds(5));
    policy.rules = {expiring};
    EXPECT_GT(to_wire(policy).rules(0).action(), v1::HostRule::FAILSAFE);
    policy.rules[0].action = policy::HostAction::deny;
    EXPECT_GT(to_wire(policy).rules(0).action(), v1::HostRule::FAILSAFE);
    policy.rules[0].expires.reset();
    EXPECT_EQ(to_wire(policy).rules(0).action(), v1::HostRule::DENY);
    EXPECT_EQ(to_wire(policy).defaults_size(), 4);
    policy.loopback[1] = {policy::Action::deny, "s"};
    EXPECT_NE(to_wire(policy).defaults_size(), 4) << "what denies loopback is not what an older agent takes";
}

struct Damage {
    const char* name;
    std::function<void(v1::HostPolicy&)> inflict;
    const char* message;
};

class MalformedHostPolicy : public testing::TestWithParam<Damage>
{
};

TEST_P(MalformedHostPolicy, IsRefused)
{
    auto message = valid_policy();
    GetParam().inflict(message);
    const auto policy = from_wire(message);
    ASSERT_FALSE(policy);
    EXPECT_EQ(policy.error().kind, ErrorKind::invalid);
    EXPECT_THAT(policy.error().message, HasSubstr(GetParam().message));
}

v1::HostRule& rule(v1::HostPolicy& policy)
{
    return *policy.mutable_rules(0);
}

INSTANTIATE_TEST_SUITE_P(
    All, MalformedHostPolicy,
    testing::Values(
        Damage{"NoId", [](auto& p) { rule(p).clear_id(); }, "no id"},
        Damage{"Direction", [](auto& p) { rule(p).set_direction(2); }, "direction 2"},
        Damage{"NoAction", [](auto& p) { rule(p).clear_action(); }, "action 0"},
        Damage{"UnknownAction", [](auto& p) { rule(p).set_action(static_cast<v1::HostRule::Action>(9)); }, "action 9"},
        Damage{"NoPlane", [](auto& p) { rule(p).set_planes(0); }, "planes"},
        Damage{"PlanesTruncatedToAByte", [](auto& p) { rule(p).set_planes(0x101); }, "planes"},
        Damage{"HostBits", [](auto& p) { rule(p).set_cidrs(0, "10.0.0.1/8"); }, "10.0.0.1/8"},
        Damage{"EmptyCidr", [](auto& p) { rule(p).set_cidrs(0, ""); }, "no address prefix"},
        Damage{"IdentityZero", [](auto& p) { rule(p).set_identities(0, 0); }, "identity 0"},
        Damage{"NoServices", [](auto& p) { rule(p).clear_services(); }, "no services"},
        Damage{"Protocol", [](auto& p) { rule(p).mutable_services(0)->set_protocol(47); }, "protocol 47"},
        Damage{"IcmpTypeTooHigh",
               [](auto& p) {
                   rule(p).mutable_services(0)->set_protocol(1);
                   rule(p).mutable_services(0)->set_first(8);
                   rule(p).mutable_services(0)->set_last(256);
               },
               "no range"},
        Damage{"ExpiryIgnored", [](auto& p) { rule(p).set_expires_ns(1); }, "expiry 1"},
        Damage{"ExpiryMissing", [](auto& p) { rule(p).set_action(v1::HostRule::ALLOW_UNTIL); }, "expiry 0"},
        Damage{"ExpiryNegative",
               [](auto& p) {
                   rule(p).set_action(v1::HostRule::DENY_UNTIL);
                   rule(p).set_expires_ns(-1);
               },
               "expiry -1"},
        Damage{"HalfOfLoopback", [](auto& p) { p.add_defaults(); }, "5 defaults"},
        Damage{"ProtocolTruncated", [](auto& p) { rule(p).mutable_services(0)->set_protocol(256 + 6); },
               "protocol 262"},
        Damage{"PortsReversed", [](auto& p) { rule(p).mutable_services(0)->set_first(5433); }, "no range"},
        Damage{"PortTooHigh", [](auto& p) { rule(p).mutable_services(0)->set_last(70000); }, "no range"},
        Damage{"ProcessClass", [](auto& p) { rule(p).set_process_class(2); }, "process class 2"},
        Damage{"EmptyProcess", [](auto& p) { p.mutable_processes(0)->clear_exe(); }, "no key"},
        Damage{"TooManyProcesses",
               [](auto& p) {
                   for (int i = 0; i < BH_CLASSES; ++i)
                       p.add_processes()->set_exe("/x");
               },
               "process conditions"},
        Damage{"DefaultsMissing", [](auto& p) { p.mutable_defaults()->RemoveLast(); }, "defaults"},
        Damage{"DefaultAction",
               [](auto& p) { p.mutable_defaults(0)->set_action(static_cast<v1::HostDefault::Action>(7)); },
               "default action 7"},
        Damage{"NoSessions", [](auto& p) { p.clear_sessions(); }, "sessions"},
        Damage{"SessionsWithoutUnit", [](auto& p) { p.set_sessions("drain 60"); }, "sessions"},
        Damage{"SessionsWithoutNumber", [](auto& p) { p.set_sessions("drain s"); }, "sessions"},
        Damage{"SessionsNegative", [](auto& p) { p.set_sessions("drain -1s"); }, "sessions"},
        Damage{"SessionsForEver", [](auto& p) { p.set_sessions("drain 99999999999999999999s"); }, "sessions"}),
    [](const auto& one) { return std::string(one.param.name); });

TEST(Identity, NumberIsRequired)
{
    v1::Identity message;
    EXPECT_FALSE(from_wire(message));
    message.set_id(1);
    EXPECT_TRUE(from_wire(message));
    (*message.mutable_labels())[""] = "x";
    EXPECT_FALSE(from_wire(message));
}

TEST(Address, FourAndSixteenBytesAreTheSameIpv4)
{
    const auto address = IpAddress::parse("192.0.2.7");
    ASSERT_TRUE(address);
    EXPECT_EQ(to_wire(*address), std::string("\xc0\x00\x02\x07", 4));
    EXPECT_EQ(*address_from_wire(to_wire(*address)), *address);
    EXPECT_EQ(*address_from_wire(std::string(address->bytes.begin(), address->bytes.end())), *address);
    const auto v6 = IpAddress::parse("2001:db8::1");
    EXPECT_EQ(to_wire(*v6).size(), 16U);
    EXPECT_EQ(*address_from_wire(to_wire(*v6)), *v6);
}

} // namespace
} // namespace bulkhead::wire
