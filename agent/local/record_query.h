// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/spool.h"
#include "common/core/result.h"
#include "controller.pb.h"

#include <functional>

namespace bulkhead::agent {

// Answers a query from the spool: what it holds, oldest first (with `last`, the newest so many), then with `follow`
// what comes until `stop` says so. `send` returns false when nobody reads any more.
[[nodiscard]] Status query_records(const v1::RecordQuery& query, Spool& spool,
                                   const std::function<bool(const v1::RecordBatch&)>& send,
                                   const std::function<bool()>& stop);

} // namespace bulkhead::agent
