// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/compile.h"
#include "common/policy/evaluate.h"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace bulkhead::harness {

// A policy and the world that it speaks of. The inventory is merged.
struct Scenario {
    policy::PolicySet policy;
    policy::Inventory inventory;
};

// BULKHEAD_SEED when it is set, else a fresh one. Print it, so that a failure can be repeated.
[[nodiscard]] std::uint64_t seed_from_environment();

// Small worlds in which things collide: overlapping CIDRs and port ranges of both families, ICMP and other protocols,
// workloads in several segments, deny over allow, every mode, conditions on processes, rules that have expired and
// rules that will, loopback. Never unspecified addresses. The same seed gives the same sequence on every machine, but
// for the time. Not thread-safe.
class RandomPolicy {
public:
    explicit RandomPolicy(std::uint64_t seed) : engine_(seed) {}

    [[nodiscard]] Scenario scenario();
    // Mostly of the inventory; sometimes a host that is not in it.
    [[nodiscard]] policy::Workload host(const Scenario& scenario);
    // Prone to hit the edges of what the rules name that concern `own`.
    [[nodiscard]] policy::Attempt attempt(const Scenario& scenario, const policy::Workload& own);

    // All processes that attempts are made by.
    [[nodiscard]] static const std::vector<policy::ProcessFacts>& processes();
    // When attempts are made: about the time of day, and no rule expires within half an hour of it.
    [[nodiscard]] static WallTime now();

    [[nodiscard]] std::size_t below(std::size_t bound) { return static_cast<std::size_t>(engine_() % bound); }
    [[nodiscard]] bool chance(std::size_t percent) { return below(100) < percent; }
    template <typename T>
    [[nodiscard]] const T& pick(const std::vector<T>& from)
    {
        return from[below(from.size())];
    }

private:
    IpAddress address();
    Cidr cidr();
    Cidr loopback_cidr();
    IpAddress loopback_address();
    policy::Protocol protocol();
    static const std::vector<std::uint16_t>& numbers(); // of other protocols
    WallTime expiry();
    policy::Labels labels();
    policy::LabelSelector selector();
    policy::PeerRef peer(const policy::PolicySet& policy, const policy::Inventory& inventory);
    std::vector<policy::ServiceAtom> services();
    policy::ProcessCondition condition();
    policy::Rule rule(const policy::PolicySet& policy, const policy::Inventory& inventory, std::size_t number);
    policy::Inventory inventory();
    IpAddress edge_of(const std::vector<Cidr>& cidrs);
    IpAddress address_near(const policy::PeerRef& peer, const Scenario& scenario);
    IpAddress interesting_address(const Scenario& scenario);
    // Turns an attempt at random into one that the rule is likely to match; false when the rule does not concern `own`.
    bool aim(policy::Attempt& attempt, const policy::Segment& segment, const policy::Rule& rule,
             const Scenario& scenario, const policy::Workload& own);

    std::mt19937_64 engine_;
};

// Numbers label sets 1, 2, 3 ... and remembers them.
[[nodiscard]] policy::IdentityNumbering counting_numbers();

// The same policy as documents that parse() accepts, one a segment.
[[nodiscard]] std::string to_yaml(const policy::PolicySet& policy);
// For messages of failing tests.
[[nodiscard]] std::string to_text(const Scenario& scenario);
[[nodiscard]] std::string to_text(const policy::Attempt& attempt);

} // namespace bulkhead::harness
