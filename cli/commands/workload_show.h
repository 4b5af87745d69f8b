// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/context.h"

namespace bulkhead::cli {

// One workload and all that is known of it.
void show_workload(const v1::WorkloadInfo& workload, Context& context);

} // namespace bulkhead::cli
