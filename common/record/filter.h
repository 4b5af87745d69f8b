// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "controller.pb.h"

#include <memory>

namespace bulkhead::record
{

// A RecordQuery's filter, checked and prepared once, then asked for every record: the same in the controller, in the
// agent and on `--input-file`. Immutable; thread-safe. Times: since <= time < until; 0 is no bound. Processes: a glob
// (fnmatch(3)) on the path, or, without a slash, on its last part. Hosts and units: globs. Nobody knows what a lost
// record would have said: a gap record is asked only for its host and time when `kinds` names GAP, so that a filter on
// other fields does not hide the loss.
class RecordMatcher
{
public:
    virtual ~RecordMatcher() = default;
    [[nodiscard]] virtual bool matches(const v1::Record& record) const = 0; // filter, excludes and times
};

// Fails (usage) on a selector that is none of: IP, CIDR, name of a workload or segment, `k=v,k=v`, `any`.
[[nodiscard]] Result<std::unique_ptr<RecordMatcher>> make_matcher(const v1::RecordQuery& query);

} // namespace bulkhead::record
