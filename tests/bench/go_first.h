// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bulkhead::bench {

// Other work on the machine gets next to nothing of the CPUs that this process uses. With autogroups niceness counts
// only within a session (sched(7)), so it begins one.
void go_first();

} // namespace bulkhead::bench
