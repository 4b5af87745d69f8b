// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/wire/wire.h"

#include <string>
#include <string_view>

namespace bulkhead::wire {

// What the controller signs of a HostState, and an agent verifies: SHA-256 digests, 32 bytes. Equal states have equal
// digests on both sides of the wire, whatever the order of their tables. A field that is added must leave the digest
// as it was while it is not set, or agents that do not know it refuse every policy.

// The context of such a signature (common/tls/signature.h).
inline constexpr std::string_view policy_signature_context = "bulkhead policy bundle 1";

// Of what all hosts of an inventory share, which is most of the work.
[[nodiscard]] std::string inventory_digest(const std::unordered_map<policy::IdentityId, policy::Identity>& identities,
                                           const policy::AddressBook& addresses);
// `inventory` is the digest of the state's own identities and addresses.
[[nodiscard]] std::string state_digest(const HostState& state, std::string_view inventory);
[[nodiscard]] std::string state_digest(const HostState& state);

} // namespace bulkhead::wire
