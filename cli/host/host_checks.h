// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/host/finding.h"

namespace bulkhead::cli {

// What an agent needs of this host, by reading files only: nothing is loaded or changed, no privilege needed. The agent
// itself probes more when it starts.
[[nodiscard]] Findings check_host(const HostPaths& paths);

} // namespace bulkhead::cli
