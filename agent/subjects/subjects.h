// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "common/policy/host_policy.h"

#include <memory>

namespace bulkhead::agent {

// Turns process conditions into facet rows: users into uids, units and containers into cgroup ids, executable globs (and
// digests) into inodes. Does I/O; bounded; never fails, since what cannot be resolved matches no process.
class SubjectResolver {
public:
    virtual ~SubjectResolver() = default;
    virtual FacetTable resolve(const std::vector<policy::ProcessCondition>& processes) = 0;
    // Conditions that match nothing at present, one line each, for status and log.
    [[nodiscard]] virtual std::vector<std::string> unmatched() const = 0;
};

struct SubjectResolverOptions {
    std::string cgroup; // searched for units and containers: the enforced folder and all below
};
[[nodiscard]] std::unique_ptr<SubjectResolver> make_subject_resolver(const SubjectResolverOptions& options);

} // namespace bulkhead::agent
