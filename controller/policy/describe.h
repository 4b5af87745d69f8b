// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller.pb.h"
#include "controller/policy/world.h"
#include "controller/store/control_store.h"

namespace bulkhead::controller {

// Segments and workloads in the words of the documents, for the API.
[[nodiscard]] v1::SegmentInfo describe(const policy::Segment& segment, const World& world);
[[nodiscard]] v1::WorkloadInfo describe(const policy::Workload& workload, const World& world);
[[nodiscard]] v1::PolicyEdition describe(const PolicyVersion& policy, std::uint64_t in_force);
[[nodiscard]] v1::Quarantine describe(const QuarantineRow& quarantine);

} // namespace bulkhead::controller
