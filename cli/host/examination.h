// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/context.h"
#include "cli/host/agent_place.h"

namespace bulkhead::cli {

// All that doctor looks at: the host, who else decides about its traffic, the agent, its files, its controller. Changes
// nothing. What cannot be seen is a finding, too.
[[nodiscard]] Findings examine(Context& context, const HostPaths& paths, AgentPlace place);

[[nodiscard]] Listing findings_listing(const Findings& findings);

} // namespace bulkhead::cli
