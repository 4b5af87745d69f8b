// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "controller.pb.h"
#include "local.pb.h"

#include <prometheus/metric_family.h>

#include <vector>

namespace bulkhead::agent {

// What an agent says of itself, as Prometheus wants it. Names and meanings: docs/metrics.md.
[[nodiscard]] std::vector<prometheus::MetricFamily> metric_families(const v1::LocalStatus& status, WallTime now);

} // namespace bulkhead::agent
