// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/policy/parse.h"
#include "common/wire/wire.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace bulkhead::agent {

// What this host is, in the words of a policy.
struct OwnWorkload {
    std::string name;
    policy::Labels labels;
    std::vector<IpAddress> addresses;
};

// Standalone: the agent is its own controller. Compiles a folder of policy files for this host; the inventory is the
// `workloads:` documents and this host. Numbers of label sets stay the same while this object lives. Not thread-safe.
class FolderPolicy {
public:
    // Errors are of kind invalid: every diagnostic, one after the other. The state's version and generation are 0.
    [[nodiscard]] Result<wire::HostState> compile(const std::string& folder, const OwnWorkload& own);
    [[nodiscard]] Result<wire::HostState> compile(const std::vector<policy::SourceFile>& files, const OwnWorkload& own);

    // Numbers of label sets that were given before, so that a restart does not look like a change.
    void remember(const wire::HostState& state);

private:
    std::map<std::pair<policy::Labels, std::string>, policy::IdentityId> numbers_;
    policy::IdentityId last_ = 0;
};

// What the files of a folder look like from outside (name, inode, size, times), and for whom: while two looks are
// equal, reading them again would give the same policy. Empty when it cannot be told.
[[nodiscard]] std::string look_of(const std::string& folder, const OwnWorkload& own);

} // namespace bulkhead::agent
