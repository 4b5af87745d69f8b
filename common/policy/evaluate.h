// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/host_policy.h"
#include "common/policy/plane_image.h"

namespace bulkhead::policy {

// The reference evaluator: the meaning of a policy, slow and obvious, straight from the documents. It shares nothing
// with compile and lower, so that it can contradict them. The kernel's answers are tested against it.
struct ProcessFacts {
    std::string exe, user, container;
    std::optional<std::string> sha256;
    std::vector<std::string> units; // components of the cgroup path that name units, outermost first
};

// `unit`, `user`, `sha256` must be equal (any of the units), `exe` must match (glob.h), `container` is the id or its
// beginning.
[[nodiscard]] bool holds(const ProcessCondition& condition, const ProcessFacts& process);

// The class vector of a process in the numbering of one HostPolicy: bit 0, and bit 1 + i where conditions[i] holds.
[[nodiscard]] ClassVector classes_of(const std::vector<ProcessCondition>& conditions, const ProcessFacts& process);

struct Attempt {
    Direction direction = Direction::outbound; // seen from `own`
    Protocol protocol = Protocol::tcp;
    IpAddress peer;
    // Of the destination; the type of ICMP, the number of another protocol. Absent: not known (a fragment).
    std::optional<std::uint16_t> port = 0;
    ProcessFacts process; // on the own side
    WallTime now{};
};

struct Evaluation {
    bh_verdict verdict = BH_ALLOWED;
    bh_reason reason = BH_REASON_NO_POLICY;
    std::string rule; // "segment/id"; for a default "segment/default-inbound", "-outbound" or "-loopback"
    bool operator==(const Evaluation&) const = default;
};

// `inventory` is merged (see merge_declared), and so are `own`'s labels; `own` need not be in it. Failsafes are the
// agent's and no part of this. Where several rules of the deciding action match, the first by "segment/id" is named; a
// default is named after the first segment by name that denies, or, when all of them allow, the first that allows. A
// loopback address is nobody's: only prefixes that lie wholly inside loopback speak of it, and `loopback:`. Where there
// is neither, it is LOCAL.
[[nodiscard]] Evaluation evaluate(const PolicySet& policy, const Inventory& inventory, const Workload& own, Plane plane,
                                  const Attempt& attempt);

} // namespace bulkhead::policy
