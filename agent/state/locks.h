// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <string>

namespace bulkhead::agent {

// Makes the state folder (mode 0700) when it is not there, and takes the mode from others when it is.
[[nodiscard]] Status prepare_state_dir(const std::string& dir);

// Both locks are flock(2): the kernel drops them with the process, however it ends. Refused (exit 5) while another
// process holds one.
[[nodiscard]] Result<UniqueFd> lock_state_dir(const std::string& dir);
// Locks the cgroup folder itself: two agents with different state or pin folders would still write the same hooks.
[[nodiscard]] Result<UniqueFd> lock_cgroup(const std::string& cgroup);

// The random id of an agent that is not enrolled; made once and kept.
[[nodiscard]] Result<std::string> standalone_agent_id(const std::string& state_dir);

} // namespace bulkhead::agent
