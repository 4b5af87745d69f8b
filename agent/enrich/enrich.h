// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/abi/bulkhead.h"
#include "common/policy/evaluate.h"
#include "common/policy/host_policy.h"
#include "record.pb.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::agent {

// Reads of one process from /proc, remembered by (pid, start time) so that a record of a process that has just died
// still names it when it was seen before. Bounded. Not thread-safe. Pids are those of the initial pid namespace, so the
// agent must see that namespace's /proc. Who counts as the process of a socket, and which races remain:
// docs/process-identity.md.
class ProcessTable {
public:
    virtual ~ProcessTable() = default;
    // Fills what can still be known; what cannot stays unset, and comm comes from the kernel's event.
    virtual v1::Process describe(const bh_subject& subject) = 0;
    // The same, in the words of the reference evaluator.
    virtual policy::ProcessFacts facts(const bh_subject& subject) = 0;
};

struct ProcessTableOptions {
    std::string proc = "/proc";
    std::string cgroup_root; // cgroup v2 mount
};
[[nodiscard]] std::unique_ptr<ProcessTable> make_process_table(const ProcessTableOptions& options);

// What a cgroup path says: the systemd unit (innermost component that ends in a unit suffix, slices left out; escapes
// kept as systemd writes them) and the container id (64 hex digits, also inside docker-*.scope, cri-containerd-*.scope,
// crio-*.scope, libpod-*.scope). Empty when absent. Pure.
struct CgroupNames {
    std::string unit, container;
    std::vector<std::string> units; // every component that names a unit, slices too, outermost first
};
[[nodiscard]] CgroupNames parse_cgroup_path(std::string_view path);

// The front of a path whose names only the administrator chose: up to and including a user's manager
// (user@1000.service) or a container. Whoever runs in there names the cgroups below as he likes, so a policy's `unit`
// and `container` look at this part alone, while records show all of it. Pure.
[[nodiscard]] std::string_view administered_part(std::string_view path);

} // namespace bulkhead::agent
