// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <string>

namespace bulkhead::agent {

constexpr const char* standard_bpf_mount = "/sys/fs/bpf";

// False also when there is nothing at `path`.
[[nodiscard]] bool on_bpf_file_system(const std::string& path);

// Mounts a new one on `where`, which is made. The standard place is the host's: an agent in a mount namespace of its
// own (a hardened unit) mounts it in init's, so that the pins outlive the agent and whoever comes after it finds them.
[[nodiscard]] Status mount_bpf_file_system(const std::string& where);

} // namespace bulkhead::agent
