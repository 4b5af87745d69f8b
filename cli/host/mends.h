// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace bulkhead::cli {

inline constexpr const char* enrol_again = "make a token on the controller ('bulkheadctl agent token create'), then "
                                           "'bulkhead-setup join HOST:PORT' here, or start bulkheadd with --join-file";

// What to do about a warning of the agent, by its words (agent/daemon/agent_status.cpp).
[[nodiscard]] std::string mend_of_warning(std::string_view warning);

// What to do where the agent enforces nothing, by where its policy comes from.
[[nodiscard]] std::string mend_of_no_policy(std::string_view source);

} // namespace bulkhead::cli
