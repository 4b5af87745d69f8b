// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/config/command_line.h"
#include "agent/datapath/datapath.h"

#include <iosfwd>

namespace bulkhead::agent {

[[nodiscard]] std::string hostname_of(const AgentConfig& config);
// The cgroup and the pin folder that the configuration means.
[[nodiscard]] Result<DatapathOptions> datapath_options(const AgentConfig& config);
// An error names everything that this kernel or these privileges lack, one line each.
[[nodiscard]] Status check_features(const DatapathOptions& options);

// What holds on this host after a start that failed, in words.
[[nodiscard]] std::string after_failed_start(const AgentConfig& config);

// `bulkheadd --check`: the configuration is valid already; looks at the policy folder and the join token, too.
[[nodiscard]] Status check_configuration(const Invocation& invocation, std::ostream& out);

// `bulkheadd --detach`: removes the programs and everything that they enforce. Refused while an agent runs on this
// cgroup.
[[nodiscard]] Status detach(const Invocation& invocation, std::ostream& out);

} // namespace bulkhead::agent
