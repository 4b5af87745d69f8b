// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/sessions/sessions.h"

namespace bulkhead::agent {

// A connection that the policy in force denies was completed: its SYN passed the door before the policy changed. False
// for what is only guessed, which a walk judges with all that it knows.
[[nodiscard]] bool is_late(const bh_event& event);

// The session behind an ESTABLISHED event from outside whose verdict is a denial, as if a walk had found it.
[[nodiscard]] ForbiddenSession late_session(const bh_event& event);

} // namespace bulkhead::agent
