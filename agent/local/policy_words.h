// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_assembler.h"

#include <string>
#include <vector>

namespace bulkhead::agent {

// What is enforced, one statement a line: the defaults of both planes, then every rule. Pure.
[[nodiscard]] std::vector<std::string> describe(const PolicyView& view);

[[nodiscard]] std::vector<std::string> describe_defaults(const PolicyView& view);
[[nodiscard]] std::vector<std::string> describe_rules(const PolicyView& view);
[[nodiscard]] std::string describe_process(const policy::ProcessCondition& process);

[[nodiscard]] std::string describe_services(const std::vector<policy::ServiceAtom>& services);
// Identities by the workloads that have them.
[[nodiscard]] std::string describe_peers(const policy::PeerSet& peers, const PolicyView& view);

} // namespace bulkhead::agent
