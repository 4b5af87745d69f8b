// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bulkhead::agent {

// Gives back to the system what this process holds and does not need: freed memory, and the pages of its code, of which
// most served its start alone. What is needed of those comes back from the page cache, several at a time. Breakpoints
// that a debugger or a uprobe has set are lost.
void give_memory_back();

} // namespace bulkhead::agent
