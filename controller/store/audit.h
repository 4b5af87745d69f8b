// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "record.pb.h"

#include <string>

namespace bulkhead::controller {

// Records of the controller's own doings carry this agent id; their seq is given by the store.
inline constexpr const char* controller_agent_id = "controller";

struct Act {
    std::string actor;  // common name of the certificate, or "controller"
    std::string action; // policy.apply, agent.enrol, ...
    std::string object;
    std::string message;
};

[[nodiscard]] v1::Record make_audit(const Clock& clock, Act act);
[[nodiscard]] std::int64_t unix_micros(const Clock& clock);

} // namespace bulkhead::controller
