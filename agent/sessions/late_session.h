// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/sessions/sessions.h"

namespace bulkhead::agent {

// The session behind an ESTABLISHED event from outside whose verdict is a denial, as if a walk had found it.
[[nodiscard]] ForbiddenSession late_session(const bh_event& event);

} // namespace bulkhead::agent
