// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/policy/host_policy.h"
#include "policy.pb.h"

namespace bulkhead::wire
{

// Conversions between common/policy and its messages. From-wire checks everything: a malformed message is an Error
// (invalid), never a half-filled structure.
[[nodiscard]] v1::HostPolicy to_wire(const policy::HostPolicy& policy);
[[nodiscard]] Result<policy::HostPolicy> from_wire(const v1::HostPolicy& message);
[[nodiscard]] v1::Identity to_wire(const policy::Identity& identity);
[[nodiscard]] Result<policy::Identity> from_wire(const v1::Identity& message);
[[nodiscard]] std::string to_wire(const IpAddress& address); // 4 or 16 bytes
[[nodiscard]] Result<IpAddress> address_from_wire(const std::string& bytes);

// One agent's knowledge: what a PolicyUpdate changes.
struct HostState {
    std::uint64_t generation = 0;
    std::uint64_t policy_version = 0;
    policy::HostPolicy policy;
    std::unordered_map<policy::IdentityId, policy::Identity> identities;
    policy::AddressBook addresses;
    policy::Labels own_labels;
    bool operator==(const HostState&) const = default;
};

// Applies a snapshot or a delta to a copy. An Error (failed, "need snapshot") when the base does not match. A delta's
// generation is above its base's. Own labels are always the whole set.
[[nodiscard]] Result<HostState> apply_update(const HostState& state, const v1::PolicyUpdate& update);
[[nodiscard]] v1::PolicyUpdate snapshot_of(const HostState& state);
// The smallest update from one state to the next; the same policy is left out.
[[nodiscard]] v1::PolicyUpdate delta_between(const HostState& from, const HostState& to);

} // namespace bulkhead::wire
