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

// False when nothing in `folder` was written, renamed, added or removed after `saved` was written, by the times that the
// kernel keeps and nobody sets (st_ctim, stat(2)). True also when it cannot be told.
[[nodiscard]] bool folder_changed_since(const std::string& folder, const std::string& saved);

} // namespace bulkhead::agent
