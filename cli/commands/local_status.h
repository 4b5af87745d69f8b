// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/context.h"

namespace bulkhead::cli {

// What the agent on this host says of itself: enforcement, failsafes, maps, spool.
int show_local_status(Context& context);
void show_local_status(const v1::LocalStatus& status, Context& context);

} // namespace bulkhead::cli
