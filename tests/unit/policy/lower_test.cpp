// SPDX-License-Identifier: Apache-2.0
#include "common/policy/compile.h"
#include "common/policy/plane_image.h"
#include "tests/harness/random_policy.h"

#include <gtest/gtest.h>

#include <cstring>

namespace bulkhead::policy {
namespace {

IpAddress ip(const char* text)
{
    return *IpAddress::parse(text);
}

HostRule rule(const std::string& id, HostAction action, PeerSet peers, std::vector<ServiceAtom> services)
{
    HostRule result;
    result.id = id;
    result.direction = Direction::inbound;
    result.action = action;
    result.peers = std::move(peers);
    result.services = std::move(services);
    return result;
}

PeerSet cidrs(std::initializer_list<const char*> texts)
{
    PeerSet set;
    for (const auto* text : texts)
        set.cidrs.push_back(Cidr::parse(text).value());
    return set;
}

const std::vector<ServiceAtom> ssh{{Protocol::tcp, {22, 22}}};
const std::vector<ServiceAtom> everything{{Protocol::tcp, {}}, {Protocol::udp, {}}};

Verdict ask(const PlaneImage& image, const HostPolicy& policy, const char* peer, std::uint16_t port,
            ClassVector classes = 1)
{
    return judge(image, policy, {Direction::inbound, Protocol::tcp, ip(peer), port}, classes);
}

TEST(Lower, AnEmptyPolicyNeverEnforces)
{
    const HostPolicy policy;
    const auto image = lower(policy, Plane::active, {}).value();
    EXPECT_TRUE(image.entries.empty());
    EXPECT_EQ(image.info.default_action[0], BH_DEFAULT_NONE);
    EXPECT_EQ(image.info.default_action[1], BH_DEFAULT_NONE);
    EXPECT_EQ(image.info.has_prefixes, 0);
    EXPECT_EQ(image.info.has_processes, 0);
    EXPECT_EQ(image.port_classes.size(), std::size_t{BH_PORT_CLASS_ENTRIES});
    EXPECT_EQ(ask(image, policy, "10.0.0.1", 22), (Verdict{BH_ALLOWED, BH_REASON_NO_POLICY, std::nullopt}));
    EXPECT_EQ(ask(PlaneImage{}, policy, "10.0.0.1", 22).reason, BH_REASON_NO_POLICY);
}

TEST(Lower, DefaultsGoToTheirPlaneAndDirection)
{
    HostPolicy policy;
    policy.defaults[0][1] = {Action::deny, "s"};
    policy.defaults[1][0] = {Action::allow, "s"};
    const auto active = lower(policy, Plane::active, {}).value();
    const auto shadow = lower(policy, Plane::shadow, {}).value();
    EXPECT_EQ(active.info.default_action[BH_INBOUND], BH_DEFAULT_DENY);
    EXPECT_EQ(active.info.default_action[BH_OUTBOUND], BH_DEFAULT_NONE);
    EXPECT_EQ(shadow.info.default_action[BH_OUTBOUND], BH_DEFAULT_ALLOW);
}

TEST(Lower, AllPortsOfAnyPeerAreOneEntryAProtocol)
{
    HostPolicy policy;
    policy.rules.push_back(rule("s/a", HostAction::allow, PeerSet{true, {}, {}}, everything));
    const auto image = lower(policy, Plane::active, {}).value();
    ASSERT_EQ(image.entries.size(), 2U);
    for (const auto& [key, cell] : image.entries) {
        EXPECT_EQ(key.peer_class, std::uint32_t{BH_PEER_ANY});
        EXPECT_EQ(key.port_class, BH_PORT_ANY);
        EXPECT_EQ(cell.entry.allow[0], 1U);
    }
}

TEST(Lower, V6PrefixesAroundTheMappedRangeDoNotMeanV4)
{
    for (const auto* wide : {"::/0", "::/80", "::fffe:0:0/95"}) {
        HostPolicy policy;
        policy.rules.push_back(rule("s/a", HostAction::deny, cidrs({wide}), ssh));
        const auto image = lower(policy, Plane::active, {}).value();
        const auto v4 = std::find_if(image.prefixes.begin(), image.prefixes.end(),
                                     [](const auto& prefix) { return prefix.key.prefixlen == 96; });
        ASSERT_NE(v4, image.prefixes.end()) << wide;
        EXPECT_EQ(v4->peer_class, std::uint32_t{BH_PEER_ANY});
        EXPECT_EQ(ask(image, policy, "10.0.0.1", 22).verdict, BH_ALLOWED) << wide;
    }
    HostPolicy both;
    both.rules.push_back(rule("s/a", HostAction::deny, cidrs({"0.0.0.0/0", "::/0"}), ssh));
    const auto image = lower(both, Plane::active, {}).value();
    EXPECT_EQ(ask(image, both, "10.0.0.1", 22).verdict, BH_DENIED);
    EXPECT_EQ(ask(image, both, "2001:db8::1", 22).verdict, BH_DENIED);
}

TEST(Lower, AnAddressNeedsARowOnlyWhereItsPrefixDoesNotSayTheSame)
{
    HostPolicy policy;
    PeerSet both = cidrs({"10.0.0.0/8"});
    both.identities = {1};
    policy.rules.push_back(rule("s/a", HostAction::allow, both, ssh));
    const AddressBook book{{ip("10.0.0.1"), {1, "a"}}, {ip("192.0.2.1"), {1, "b"}}, {ip("192.0.2.2"), {2, "c"}}};
    const auto image = lower(policy, Plane::active, book).value();
    ASSERT_EQ(image.exact.size(), 1U);
    EXPECT_TRUE(image.exact.contains(ip("192.0.2.1")));
    EXPECT_EQ(image.peer_class(ip("192.0.2.1")), image.peer_class(ip("10.0.0.1")));
    EXPECT_EQ(image.peer_class(ip("192.0.2.2")), std::uint32_t{BH_PEER_ANY});
}

TEST(Lower, APrefixOfOneAddressIsAnAddress)
{
    HostPolicy policy;
    PeerSet known = cidrs({"10.1.2.3"});
    known.identities = {1};
    policy.rules.push_back(rule("s/a", HostAction::allow, cidrs({"10.0.0.0/8", "10.1.2.0/24", "2001:db8::1"}), ssh));
    policy.rules.push_back(rule("s/b", HostAction::deny, known, ssh));
    policy.rules.push_back(rule("s/c", HostAction::deny, cidrs({"10.1.2.64/26"}), ssh));
    const AddressBook book{{ip("10.1.2.3"), {1, "a"}}, {ip("192.0.2.1"), {2, "b"}}};
    const auto image = lower(policy, Plane::active, book).value();
    for (const auto& prefix : image.prefixes)
        EXPECT_LT(prefix.key.prefixlen, 128U);
    EXPECT_EQ(image.prefixes.size(), 2U); // 10.1.2.0/24 says what 10.0.0.0/8 does
    EXPECT_EQ(image.exact.size(), 2U);
    EXPECT_EQ(ask(image, policy, "10.1.2.3", 22).verdict, BH_DENIED);
    EXPECT_EQ(ask(image, policy, "10.1.2.4", 22).reason, BH_REASON_RULE);
    EXPECT_EQ(ask(image, policy, "10.1.2.4", 22).verdict, BH_ALLOWED);
    EXPECT_EQ(ask(image, policy, "10.1.2.65", 22).verdict, BH_DENIED);
    EXPECT_EQ(ask(image, policy, "2001:db8::1", 22).reason, BH_REASON_RULE);
    EXPECT_EQ(ask(image, policy, "2001:db8::2", 22).reason, BH_REASON_NO_POLICY);
}

TEST(Lower, PrefixesThatSayNothingNewAreLeftOut)
{
    HostPolicy policy;
    policy.rules.push_back(rule("s/a", HostAction::allow, cidrs({"10.0.0.0/8", "10.1.0.0/16"}), ssh));
    EXPECT_EQ(lower(policy, Plane::active, {}).value().prefixes.size(), 1U);
    policy.rules.push_back(rule("s/b", HostAction::deny, cidrs({"10.1.0.0/16"}), ssh));
    EXPECT_EQ(lower(policy, Plane::active, {}).value().prefixes.size(), 2U);
}

TEST(Lower, PortsThatNoRuleTellsApartShareAClass)
{
    HostPolicy policy;
    policy.rules.push_back(rule("s/a", HostAction::allow, PeerSet{true, {}, {}},
                                {{Protocol::tcp, {80, 80}}, {Protocol::tcp, {443, 443}}}));
    policy.rules.push_back(rule("s/b", HostAction::deny, PeerSet{true, {}, {}}, {{Protocol::tcp, {100, 200}}}));
    const auto image = lower(policy, Plane::active, {}).value();
    const auto number = [&](std::uint16_t port) {
        return image.port_classes[port_class_index(Direction::inbound, Protocol::tcp, port)];
    };
    EXPECT_EQ(number(80), number(443));
    EXPECT_EQ(number(100), number(200));
    EXPECT_NE(number(80), number(150));
    EXPECT_EQ(number(81), BH_PORT_ANY);
    EXPECT_EQ(image.port_classes[port_class_index(Direction::outbound, Protocol::tcp, 80)], BH_PORT_ANY);
    EXPECT_EQ(image.port_classes[port_class_index(Direction::inbound, Protocol::udp, 80)], BH_PORT_ANY);
}

TEST(Judge, FailsafeThenDenyThenAllowThenDefault)
{
    HostPolicy policy;
    policy.defaults[0][1] = {Action::deny, "s"};
    policy.rules.push_back(rule("failsafe/ssh", HostAction::failsafe, cidrs({"10.0.0.0/8"}), ssh));
    policy.rules.push_back(rule("s/a", HostAction::allow, PeerSet{true, {}, {}}, everything));
    policy.rules.push_back(rule("s/b", HostAction::deny, PeerSet{true, {}, {}}, {{Protocol::tcp, {0, 1023}}}));
    const auto image = lower(policy, Plane::active, {}).value();
    EXPECT_EQ(ask(image, policy, "10.0.0.1", 22), (Verdict{BH_ALLOWED, BH_REASON_FAILSAFE, 0}));
    EXPECT_EQ(ask(image, policy, "11.0.0.1", 22), (Verdict{BH_DENIED, BH_REASON_RULE, 2}));
    EXPECT_EQ(ask(image, policy, "11.0.0.1", 8080), (Verdict{BH_ALLOWED, BH_REASON_RULE, 1}));
    policy.rules.erase(policy.rules.begin() + 1);
    const auto stricter = lower(policy, Plane::active, {}).value();
    EXPECT_EQ(ask(stricter, policy, "11.0.0.1", 8080), (Verdict{BH_DENIED, BH_REASON_DEFAULT, std::nullopt}));
}

TEST(Judge, ProcessClassesAreHeldAgainstTheSubjects)
{
    HostPolicy policy;
    policy.processes.resize(200);
    auto high = rule("s/a", HostAction::allow, PeerSet{true, {}, {}}, ssh);
    high.process_class = 200;
    policy.rules.push_back(high);
    policy.defaults[0][1] = {Action::deny, "s"};
    const auto image = lower(policy, Plane::active, {}).value();
    EXPECT_EQ(image.info.has_processes, 1);
    EXPECT_EQ(ask(image, policy, "10.0.0.1", 22).verdict, BH_DENIED);
    ClassVector classes(1);
    classes.set(200);
    EXPECT_EQ(ask(image, policy, "10.0.0.1", 22, classes), (Verdict{BH_ALLOWED, BH_REASON_RULE, 0}));
}

TEST(Lower, RefusesWhatCannotBe)
{
    HostPolicy policy;
    auto lost = rule("s/a", HostAction::allow, PeerSet{true, {}, {}}, ssh);
    lost.process_class = 1; // of no conditions
    policy.rules = {lost};
    EXPECT_EQ(lower(policy, Plane::active, {}).error().kind, ErrorKind::invalid);
    policy.processes.resize(1);
    policy.rules[0].action = HostAction::failsafe;
    EXPECT_EQ(lower(policy, Plane::active, {}).error().kind, ErrorKind::invalid);
    policy.processes.resize(BH_CLASSES);
    policy.rules.clear();
    EXPECT_EQ(lower(policy, Plane::active, {}).error().kind, ErrorKind::invalid);
}

TEST(Lower, EveryPortApartDoesNotFit)
{
    HostPolicy policy;
    for (unsigned port = 0; port <= 65535; ++port) {
        const auto p = static_cast<std::uint16_t>(port);
        policy.rules.push_back(rule("s/r", HostAction::allow, PeerSet{true, {}, {}}, {{Protocol::tcp, {p, p}}}));
    }
    const auto over = lower(policy, Plane::active, {});
    ASSERT_FALSE(over.has_value());
    EXPECT_EQ(over.error().kind, ErrorKind::invalid);
    policy.rules.pop_back();
    EXPECT_TRUE(lower(policy, Plane::active, {}).has_value());
}

// Rules that all overlap would make tables of rules x peers x ports: an answer, not an exhausted machine.
TEST(Lower, APolicyThatExplodesIsRefused)
{
    HostPolicy policy;
    for (std::uint16_t i = 0; i < 10000; ++i)
        policy.rules.push_back(rule("s/r", HostAction::allow, PeerSet{true, {}, {}},
                                    {{Protocol::tcp, {i, static_cast<std::uint16_t>(60000 - i)}}}));
    const auto over = lower(policy, Plane::active, {});
    ASSERT_FALSE(over.has_value());
    EXPECT_EQ(over.error().kind, ErrorKind::invalid);
}

TEST(Lower, TenThousandRulesAndAHundredThousandPeers)
{
    PolicySet policy;
    Inventory inventory;
    for (int s = 0; s < 100; ++s) {
        Segment segment;
        segment.name = fmt::format("s{:02}", s);
        segment.selector.terms["app"] = {fmt::format("a{}", s)};
        segment.mode = Mode::enforce;
        for (int r = 0; r < 100; ++r) {
            Rule next;
            next.id = fmt::format("r{}", r);
            next.from.emplace();
            next.from->segment = fmt::format("s{:02}", (s + r) % 100);
            const auto port = static_cast<std::uint16_t>(1000 + r);
            next.services = {{Protocol::tcp, {port, port}}};
            segment.rules.push_back(std::move(next));
        }
        policy.segments.push_back(std::move(segment));
    }
    for (std::uint32_t i = 0; i < 100000; ++i)
        inventory.workloads.push_back({fmt::format("h{}", i),
                                       {{"app", fmt::format("a{}", i % 100)}, {"shard", fmt::format("{}", i % 1000)}},
                                       {IpAddress::from_v4(0x0a000000U + i)}});
    const auto identities = build_identities(policy, inventory, harness::counting_numbers());
    EXPECT_EQ(identities.identities.size(), 1000U);
    const auto host = compile_host(policy, identities.identities, {{"app", "a7"}}, "h7").value();
    EXPECT_EQ(host.rules.size(), 200U);
    const auto image = lower(host, Plane::active, identities.addresses).value();
    EXPECT_EQ(image.exact.size(), 100000U);
    EXPECT_LE(image.entries.size(), 300U) << "identities of one segment share a class";
    EXPECT_EQ(ask(image, host, "10.0.0.8", 1001).verdict, BH_ALLOWED);
    EXPECT_EQ(ask(image, host, "10.0.0.8", 1002).verdict, BH_DENIED);
}

} // namespace
} // namespace bulkhead::policy
