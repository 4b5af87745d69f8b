// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/policy_words.h"
#include "common/core/clock.h"

namespace bulkhead::agent {

[[nodiscard]] MonotonicTime time_of(const bh_event& event);
[[nodiscard]] policy::Direction direction_of_event(const bh_event& event);
[[nodiscard]] Judgement judgement_of(const bh_event& event);
[[nodiscard]] Judgement judgement_of(const bh_judge_request& request);

} // namespace bulkhead::agent
