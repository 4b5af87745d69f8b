// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <functional>
#include <vector>

namespace bulkhead::agent {

// Does all of it, each part in a thread of its own where there is one to be had, and waits for all; the last failure, if
// any failed.
[[nodiscard]] Status at_once(const std::vector<std::function<Status()>>& parts);

} // namespace bulkhead::agent
