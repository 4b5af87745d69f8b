// SPDX-License-Identifier: Apache-2.0
#include "common/wire/state_digest.h"

#include "random_state.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

namespace bulkhead::wire {
namespace {

// Every field has a value, and those that are sets have two.
HostState full_state()
{
    HostState state;
    state.generation = 12;
    state.policy_version = 4;
    state.policy.segments = {"shop", "web"};
    policy::HostRule rule;
    rule.id = "web/in";
    rule.direction = policy::Direction::inbound;
    rule.planes = policy::plane_bit(policy::Plane::active);
    rule.peers.cidrs = {*Cidr::parse("10.0.0.0/8"), *Cidr::parse("2001:db8::/32")};
    rule.peers.identities = {1, 2};
    rule.services = {{policy::Protocol::tcp, {80, 81}}, {policy::Protocol::udp, {53, 53}}};
    rule.process_class = 1;
    rule.expires = WallTime(std::chrono::seconds(1'800'000'000));
    rule.where = "shop.yaml:3";
    rule.reason = "the front door";
    state.policy.rules = {rule};
    state.policy.processes = {{"nginx.service", "/usr/sbin/nginx", "ab", "www-data", "c0ffee"}};
    for (auto& plane : state.policy.defaults)
        for (auto& one : plane)
            one = {policy::Action::deny, "web"};
    for (auto& plane : state.policy.loopback)
        plane = {policy::Action::deny, "web"};
    state.policy.sessions = {policy::Sessions::Kind::drain, std::chrono::seconds(60)};
    state.identities[1] = {1, {{"role", "api"}, {"app", "shop"}}, "api-1", {"api", "shop"}};
    state.identities[2] = {2, {{"role", "db"}}, "", {"db"}};
    state.addresses[*IpAddress::parse("192.0.2.1")] = {1, "api-1"};
    state.addresses[*IpAddress::parse("2001:db8::1")] = {2, "db-1"};
    state.own_labels = {{"role", "web"}};
    return state;
}

std::string hex(const std::string& bytes)
{
    std::string text;
    for (const char c : bytes)
        text += fmt::format("{:02x}", static_cast<unsigned char>(c));
    return text;
}

struct Change {
    const char* of;
    std::function<void(HostState&)> make;
};

const std::vector<Change>& changes()
{
    static const auto rule = [](HostState& state) -> policy::HostRule& { return state.policy.rules[0]; };
    static const auto process = [](HostState& state) -> policy::ProcessCondition& { return state.policy.processes[0]; };
    static const auto own = [](HostState& state) -> policy::Identity& { return state.identities.at(1); };
    static const auto entry = [](HostState& state) -> policy::AddressEntry& {
        return state.addresses.at(*IpAddress::parse("192.0.2.1"));
    };
    static const std::vector<Change> all{
        {"generation", [](auto& s) { ++s.generation; }},
        {"policy_version", [](auto& s) { ++s.policy_version; }},
        {"segments", [](auto& s) { s.policy.segments.pop_back(); }},
        {"segments split elsewhere",
         [](auto& s) {
             s.policy.segments = {"shopw", "eb"};
         }},
        {"a rule more", [](auto& s) { s.policy.rules.push_back(s.policy.rules[0]); }},
        {"no rule", [](auto& s) { s.policy.rules.clear(); }},
        {"rule id", [](auto& s) { rule(s).id = "web/out"; }},
        {"direction", [](auto& s) { rule(s).direction = policy::Direction::outbound; }},
        {"action", [](auto& s) { rule(s).action = policy::HostAction::deny; }},
        {"planes", [](auto& s) { rule(s).planes = policy::both_planes; }},
        {"any peer", [](auto& s) { rule(s).peers.any = true; }},
        {"cidr", [](auto& s) { rule(s).peers.cidrs[0] = *Cidr::parse("11.0.0.0/8"); }},
        {"prefix length", [](auto& s) { rule(s).peers.cidrs[0].length = 9; }},
        {"no cidrs", [](auto& s) { rule(s).peers.cidrs.clear(); }},
        {"peer identity", [](auto& s) { rule(s).peers.identities[1] = 3; }},
        {"protocol", [](auto& s) { rule(s).services[0].protocol = policy::Protocol::udp; }},
        {"first port", [](auto& s) { rule(s).services[0].ports.first = 79; }},
        {"last port", [](auto& s) { rule(s).services[0].ports.last = 82; }},
        {"a service less", [](auto& s) { rule(s).services.pop_back(); }},
        {"process class", [](auto& s) { rule(s).process_class = 0; }},
        {"expiry", [](auto& s) { *rule(s).expires += std::chrono::nanoseconds(1); }},
        {"no expiry", [](auto& s) { rule(s).expires.reset(); }},
        {"where", [](auto& s) { rule(s).where = "shop.yaml:4"; }},
        {"reason", [](auto& s) { rule(s).reason.clear(); }},
        {"unit", [](auto& s) { process(s).unit.reset(); }},
        {"exe", [](auto& s) { process(s).exe = "/usr/bin/nginx"; }},
        {"sha256", [](auto& s) { process(s).sha256 = "ac"; }},
        {"user", [](auto& s) { process(s).user = "root"; }},
        {"container", [](auto& s) { process(s).container.reset(); }},
        {"empty is not absent", [](auto& s) { process(s).container = ""; }},
        {"active outbound", [](auto& s) { s.policy.defaults[0][0].action = policy::Action::allow; }},
        {"active inbound", [](auto& s) { s.policy.defaults[0][1].action.reset(); }},
        {"shadow outbound", [](auto& s) { s.policy.defaults[1][0].segment = "shop"; }},
        {"shadow inbound", [](auto& s) { s.policy.defaults[1][1].action = policy::Action::allow; }},
        {"active loopback", [](auto& s) { s.policy.loopback[0].action.reset(); }},
        {"shadow loopback", [](auto& s) { s.policy.loopback[1].segment = "shop"; }},
        {"sessions",
         [](auto& s) {
             s.policy.sessions = {policy::Sessions::Kind::cut, {}};
         }},
        {"drain", [](auto& s) { s.policy.sessions.drain += std::chrono::seconds(1); }},
        {"an identity less", [](auto& s) { s.identities.erase(2); }},
        {"identity", [](auto& s) { own(s).id = 7; }},
        {"identity's label", [](auto& s) { own(s).labels["role"] = "db"; }},
        {"identity's label key",
         [](auto& s) {
             own(s).labels = {{"role", "api"}, {"apps", "hop"}};
         }},
        {"named workload", [](auto& s) { own(s).named_workload.clear(); }},
        {"identity's segments", [](auto& s) { own(s).segments.push_back("web"); }},
        {"an address less", [](auto& s) { s.addresses.erase(*IpAddress::parse("2001:db8::1")); }},
        {"address",
         [](auto& s) {
             auto node = s.addresses.extract(*IpAddress::parse("192.0.2.1"));
             node.key() = *IpAddress::parse("192.0.2.2");
             s.addresses.insert(std::move(node));
         }},
        {"address's identity", [](auto& s) { entry(s).identity = 2; }},
        {"address's workload", [](auto& s) { entry(s).workload = "api-2"; }},
        {"own labels", [](auto& s) { s.own_labels["app"] = "shop"; }},
    };
    return all;
}

TEST(StateDigest, EveryFieldCounts)
{
    std::set<std::string> seen{state_digest(full_state())};
    for (const auto& change : changes()) {
        auto state = full_state();
        change.make(state);
        EXPECT_TRUE(seen.insert(state_digest(state)).second) << change.of;
    }
}

// What is signed by a controller of one version is verified by agents of another.
TEST(StateDigest, IsTheSameInEveryVersion)
{
    EXPECT_EQ(hex(state_digest(full_state())), "b535f66e792e0c152b13e049806bbdb9069c1a50fa6ab9646e10333ff76b7ef2");
    EXPECT_EQ(hex(state_digest({})), "82a85f96225966667de9b56b1ac8ac7616909dd232393e5e95adb7ee8e56d583");
}

TEST(StateDigest, TheOrderOfTablesAndSetsDoesNotMatter)
{
    const auto state = full_state();
    auto other = state;
    other.identities.clear();
    other.addresses.clear();
    other.identities.rehash(97); // another number of buckets, and filled from the other end
    other.addresses.rehash(97);
    std::vector<policy::IdentityId> ids;
    for (policy::IdentityId id = 1; id <= 50; ++id)
        ids.push_back(id);
    auto first = state;
    for (const auto id : ids) {
        first.identities[id] = {id, {}, "", {}};
        first.addresses[IpAddress::from_v4(id)] = {id, ""};
    }
    for (const auto& [address, entry] : first.addresses)
        if (!address.is_v4())
            other.addresses[address] = entry;
    std::reverse(ids.begin(), ids.end());
    for (const auto id : ids) {
        other.identities[id] = {id, {}, "", {}};
        other.addresses[IpAddress::from_v4(id)] = {id, ""};
    }
    other.addresses[*IpAddress::parse("192.0.2.1")] = {1, "api-1"};
    std::reverse(other.policy.segments.begin(), other.policy.segments.end());
    auto& peers = other.policy.rules[0].peers;
    std::reverse(peers.cidrs.begin(), peers.cidrs.end());
    std::reverse(peers.identities.begin(), peers.identities.end());
    EXPECT_EQ(state_digest(first), state_digest(other));
}

TEST(StateDigest, ThePartThatAllHostsShareCanBeGiven)
{
    const auto state = full_state();
    const auto inventory = inventory_digest(state.identities, state.addresses);
    EXPECT_EQ(state_digest(state, inventory), state_digest(state));
    EXPECT_NE(state_digest(state, inventory_digest({}, {})), state_digest(state));
}

RC_GTEST_PROP(StateDigest, BothSidesOfTheWireHaveTheSame, ())
{
    auto from = random_state();
    auto to = random_state();
    to.generation = from.generation + 1;
    v1::PolicyUpdate whole, change;
    RC_ASSERT(whole.ParseFromString(snapshot_of(to).SerializeAsString()));
    RC_ASSERT(change.ParseFromString(delta_between(from, to).SerializeAsString()));
    const auto after_whole = apply_update({}, whole);
    const auto after_change = apply_update(from, change);
    RC_ASSERT(after_whole && after_change);
    RC_ASSERT(state_digest(*after_whole) == state_digest(to));
    RC_ASSERT(state_digest(*after_change) == state_digest(to));
    RC_ASSERT(state_digest(from) != state_digest(to));
}

} // namespace
} // namespace bulkhead::wire
