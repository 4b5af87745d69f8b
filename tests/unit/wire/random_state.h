// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/wire/wire.h"

namespace bulkhead::wire
{

// Drawn inside an rc::check property. Numbers and names come from small ranges, so that two states share much.
[[nodiscard]] policy::HostPolicy random_policy();
[[nodiscard]] HostState random_state();

} // namespace bulkhead::wire
