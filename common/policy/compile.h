// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/policy/host_policy.h"

#include <functional>

namespace bulkhead::policy {

// Gives the number of a label set; the controller's is backed by its store, tests count up from 1.
using IdentityNumbering = std::function<IdentityId(const Labels&, const std::string& named_workload)>;

// The inventory in identities. Agents' workloads and `workloads:` documents are merged by name: a document adds labels
// to an agent's workload (the document wins on a key) and addresses to one without an agent.
struct Identities {
    std::vector<Identity> identities; // by id
    AddressBook addresses;
};
[[nodiscard]] Inventory merge_declared(Inventory inventory, const PolicySet& policy);
[[nodiscard]] Identities build_identities(const PolicySet& policy, const Inventory& merged,
                                          const IdentityNumbering& number);

// Compiles the policy for one host. Meaning of modes, and why (ADR 0003):
//   - an allow rule counts in both planes at both ends, whatever the mode of the segment that declares it;
//   - a deny rule counts in the active plane when the declaring segment is in mode enforce, in the shadow plane when it
//     is in mode test or enforce, never in mode observe; at both ends;
//   - a segment's default counts on its own workloads in the same planes as its deny rules. A workload in several
//     segments is denied by default where any of them says deny.
// So the active plane is never stricter than the shadow plane, and moving any subset of segments from test to enforce
// refuses nothing that the shadow plane had not reported. Fails (invalid) on more than BH_CLASSES - 1 process conditions.
[[nodiscard]] Result<HostPolicy> compile_host(const PolicySet& policy, const std::vector<Identity>& identities,
                                              const Labels& own_labels, const std::string& own_name);

} // namespace bulkhead::policy
