// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace bulkhead::cli {

// policy apply, confirm and rollback: what changes what hosts enforce, and waits for their answers.
void add_rollout(CLI::App& policy, Selection& selection);

} // namespace bulkhead::cli
