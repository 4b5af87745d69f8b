// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller.pb.h"
#include "controller/policy/world.h"

namespace bulkhead::controller {

// Segments and workloads in the words of the documents, for the API.
[[nodiscard]] v1::SegmentInfo describe(const policy::Segment& segment, const World& world);
[[nodiscard]] v1::WorkloadInfo describe(const policy::Workload& workload, const World& world);

} // namespace bulkhead::controller
