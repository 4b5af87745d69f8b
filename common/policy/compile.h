// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/policy/host_policy.h"

#include <functional>
#include <memory>

namespace bulkhead::policy {

// Gives the number of a label set; the controller's is backed by its store, tests count up from 1.
using IdentityNumbering = std::function<IdentityId(const Labels&, const std::string& named_workload)>;

// The inventory in identities. Agents' workloads and `workloads:` documents are merged by name: a document adds labels
// to an agent's workload (the document wins on a key) and addresses; one without an agent comes from the document
// alone. An address that several workloads claim goes to the first of them by name.
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
//   - a segment's default counts on its own workloads in the same planes as its deny rules, and so does `loopback`. A
//     workload in several segments is denied by default where any of them says deny.
// So the active plane is never stricter than the shadow plane, and moving any subset of segments from test to enforce
// refuses nothing that the shadow plane had not reported. Fails (invalid) on more than BH_CLASSES - 1 process
// conditions. Which ends a rule reaches: a peer that is a segment, labels or a workload gives both ends; a peer that is
// `any`, CIDRs or an address group only the declaring segment's. A process condition binds the declaring segment's end;
// a deny that has one is left to that end alone, since the other end cannot see the process and would refuse too much.
[[nodiscard]] Result<HostPolicy> compile_host(const PolicySet& policy, const std::vector<Identity>& identities,
                                              const Labels& own_labels, const std::string& own_name);

// The same for many hosts: what does not depend on the host is worked out once. Borrows policy and identities; not
// thread-safe, for it remembers which identities a selector names.
class HostCompiler {
public:
    HostCompiler(const PolicySet& policy, const std::vector<Identity>& identities);
    ~HostCompiler();
    HostCompiler(const HostCompiler&) = delete;
    HostCompiler& operator=(const HostCompiler&) = delete;

    [[nodiscard]] Result<HostPolicy> compile(const Labels& own_labels, const std::string& own_name);

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

} // namespace bulkhead::policy
