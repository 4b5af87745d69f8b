// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "record.pb.h"

#include <string>

namespace bulkhead::cli {

// One record, one line for people:
// "13:04:05.123456 DENIED      out web 10.77.0.11 -> db 10.77.0.13:5432/tcp  curl[812] nginx.service  rule
// shop-web/default-outbound". Nothing from a record reaches a terminal raw.
[[nodiscard]] std::string record_line(const v1::Record& record, bool colour);

} // namespace bulkhead::cli
