// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

namespace bulkhead::agent {

// An agent that cannot start here (a kernel that lacks something) is started again and again by its unit, and each try
// costs the verifier's time. What failed in a row is counted in the unit's runtime folder (systemd.exec(5),
// RUNTIME_DIRECTORY), and from the sixth time on there is a pause before the failure is reported.

// After `failures` in a row; below TimeoutStartSec= of the unit.
[[nodiscard]] std::chrono::seconds pause_after(unsigned failures);

// Counts one more, and says how many that makes; 0 where there is no such folder.
[[nodiscard]] unsigned count_failed_start(const std::string& folder);
void forget_failed_starts(const std::string& folder);

// Empty: not started by a unit.
[[nodiscard]] std::string runtime_folder();

// Ends early on a signal that is blocked (block_signals()).
void wait_for_signal(std::chrono::seconds time);

} // namespace bulkhead::agent
