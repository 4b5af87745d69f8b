// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <cstdint>
#include <functional>

namespace bulkhead::agent {

// Runs `work` in the network namespace of the descriptor: in this thread if it is there already, else in one of its
// own, and waits for it.
[[nodiscard]] Status in_namespace(int netns, const std::function<Status()>& work);

// Inode number of the namespace behind the descriptor; 0: it is none.
[[nodiscard]] std::uint32_t namespace_inode(int netns);

} // namespace bulkhead::agent
