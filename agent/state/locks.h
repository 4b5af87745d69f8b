// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <string>

namespace bulkhead::agent {

// Makes the state folder (mode 0700) when it is not there, and takes the mode from others when it is. Something else in
// its place is set aside. An error is no reason not to enforce: says what is the matter and what it costs.
[[nodiscard]] Status prepare_state_dir(const std::string& dir);

// Both locks are flock(2): the kernel drops them with the process, however it ends. Refused (exit 5) while another
// process holds one. Where no lock file can be made (a read-only or full disk) the folder itself is locked.
[[nodiscard]] Result<UniqueFd> lock_state_dir(const std::string& dir);
// Locks the cgroup folder itself: two agents with different state or pin folders would still write the same hooks.
[[nodiscard]] Result<UniqueFd> lock_cgroup(const std::string& cgroup);

// The random id of an agent that is not enrolled; made once and kept. One that is damaged is made anew.
[[nodiscard]] Result<std::string> standalone_agent_id(const std::string& state_dir);
[[nodiscard]] Result<std::string> random_agent_id();

} // namespace bulkhead::agent
