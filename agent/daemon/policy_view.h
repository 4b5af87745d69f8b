// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_assembler.h"
#include "common/core/result.h"
#include "common/wire/wire.h"

#include <memory>
#include <vector>

namespace bulkhead::agent {

// A host's state and its failsafes as planes, with their words; of no generation yet. Fails (invalid) when it does not
// fit a host. Pure.
[[nodiscard]] Result<std::shared_ptr<PolicyView>> build_view(const wire::HostState& state,
                                                             const std::vector<policy::HostRule>& failsafes);

// Both make the same planes and the same words, but for numbers of versions.
[[nodiscard]] bool same_meaning(const wire::HostState& a, const wire::HostState& b);

} // namespace bulkhead::agent
