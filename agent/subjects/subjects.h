// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "common/core/clock.h"
#include "common/policy/host_policy.h"

#include <chrono>
#include <memory>

namespace bulkhead::agent {

// Turns process conditions into facet rows: users into uids, units and containers into cgroup ids, executable globs
// (and digests) into inodes. Does I/O; bounded; never fails, since what cannot be resolved matches no process. Not
// thread-safe.
//
// Meant to be asked again every second: an answer that nothing on the host has changed is cheap, and equal to the one
// before, byte for byte (rows are sorted), so the caller can compare. What comes to be between two answers (a program
// just installed, a container just started) matches no condition until the next one; a new cgroup inside a unit
// inherits in the kernel at once. docs/process-identity.md says what each condition means and where it can be evaded.
class SubjectResolver {
public:
    virtual ~SubjectResolver() = default;
    // Waits at most for `patience` until the digests are known of programs that were not read yet (FileDigests); what
    // is not known then matches no `sha256`.
    virtual FacetTable resolve(const std::vector<policy::ProcessCondition>& processes,
                               std::chrono::milliseconds patience) = 0;
    // `known`, which is from an answer to the same conditions, with the cgroups as they are now and all else as it was.
    // Cheap enough for each time that one is made; unmatched() stays what it is.
    virtual FacetTable with_cgroups_of_now(const std::vector<policy::ProcessCondition>& processes,
                                           FacetTable known) = 0;
    // Conditions that match nothing at present, or less than they may: one line each, for status and log.
    [[nodiscard]] virtual std::vector<std::string> unmatched() const = 0;
};

struct SubjectResolverOptions {
    std::string cgroup;           // searched for units and containers: the enforced folder and all below
    std::string cgroup_root = {}; // cgroup v2 mount; default: the one that `cgroup` lies in
    std::string proc = "/proc";
    const Clock* clock = &system_clock(); // borrowed
};
[[nodiscard]] std::unique_ptr<SubjectResolver> make_subject_resolver(const SubjectResolverOptions& options);

} // namespace bulkhead::agent
