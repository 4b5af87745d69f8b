// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/context.h"

namespace bulkhead::cli {

// What the agent on this host says of itself: enforcement, failsafes, maps, spool.
int show_local_status(Context& context);
void show_local_status(const v1::LocalStatus& status, Context& context);
[[nodiscard]] Json status_document(const v1::LocalStatus& status);

// What the kernel of this host holds; at most `limit` lines a table, 0: all.
[[nodiscard]] Result<v1::LocalMaps> ask_for_maps(Context& context, std::uint32_t limit);
[[nodiscard]] Json maps_document(const v1::LocalMaps& maps);

} // namespace bulkhead::cli
