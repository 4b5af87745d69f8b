// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "controller.pb.h"

#include <cstdint>
#include <string>
#include <vector>

namespace bulkhead::cli {

// The filters of `flows` and `violations`, as written.
struct RecordOptions {
    bool follow = false;
    bool violations_only = false;
    std::uint32_t last = 0; // 0: not given
    std::string since, until, input_file;
    std::vector<std::string> verdicts, from, to, hosts, protocols, processes, units, directions, exclude;
    std::vector<std::uint32_t> ports;
};

// Times are RFC 3339, or "90s", "5m", "2h", "7d" before `now_micros`. Errors: usage.
[[nodiscard]] Result<v1::RecordQuery> make_query(const RecordOptions& options, std::int64_t now_micros);

} // namespace bulkhead::cli
