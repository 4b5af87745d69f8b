// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/host/finding.h"

#include <optional>
#include <string>

namespace bulkhead::cli {

// What the running kernel was built with, from wherever it can be read below `root`.
[[nodiscard]] std::optional<std::string> kernel_config(const std::string& root);

// What an agent needs of this host, by reading files only: nothing is loaded or changed, no privilege needed. The agent
// itself probes more when it starts.
[[nodiscard]] Findings check_host(const HostPaths& paths);

} // namespace bulkhead::cli
