// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "common/policy/compile.h"
#include "common/wire/wire.h"
#include "controller/inventory/inventory.h"

#include <map>
#include <memory>
#include <optional>
#include <unordered_map>

namespace bulkhead::controller {

struct World;

// A policy on trial, as it is told to agents.
struct TrialTerms {
    MonotonicTime until{};           // of this controller; each host counts for itself
    std::shared_ptr<const World> on; // what hosts hold as confirmed meanwhile; null: none that can be compiled
};

// What follows from one policy and one state of the inventory: immutable, shared between threads. Workloads with one
// label set share one identity and so one HostState.
struct World {
    std::uint64_t generation = 0;
    std::uint64_t policy_version = 0;
    std::optional<TrialTerms> trial; // none: for good
    std::shared_ptr<const policy::PolicySet> policy;
    Composition composition;
    std::vector<policy::Identity> identities;
    policy::AddressBook addresses;
    std::string inventory_digest; // of these identities and addresses, which all states have (common/wire)
    std::map<std::string, policy::IdentityId> identity_of;                                 // by workload
    std::unordered_map<policy::IdentityId, std::shared_ptr<const wire::HostState>> states; // those that agents need
    std::map<policy::IdentityId, std::string> failures;                                    // why there is no state

    [[nodiscard]] const policy::Identity* identity(policy::IdentityId id) const;
    // nullptr: the agent is not known, or its policy does not compile.
    [[nodiscard]] std::shared_ptr<const wire::HostState> state_for(const std::string& agent_id) const;
};

struct WorldInput {
    std::uint64_t generation = 0;
    std::uint64_t policy_version = 0;
    std::shared_ptr<const policy::PolicySet> policy;
    Composition composition;
};

// `previous` (may be null) lends what has not changed.
[[nodiscard]] std::shared_ptr<const World> build_world(WorldInput input, const policy::IdentityNumbering& number,
                                                       const World* previous);

} // namespace bulkhead::controller
