// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "record.pb.h"

#include <string>
#include <string_view>

namespace bulkhead::record
{

// One JSON object, one line, no newline at the end; fields in the order and with the names of docs/record-formats.md.
// What is not set is left out. Bytes that are no UTF-8 (a process name) are written as U+FFFD.
[[nodiscard]] std::string to_json(const v1::Record& record);

// The reverse, for `--input-file`. Unknown fields are ignored; malformed JSON is an Error (invalid).
[[nodiscard]] Result<v1::Record> from_json(std::string_view line);

[[nodiscard]] std::string_view to_string(v1::Record::Verdict verdict);
[[nodiscard]] std::string_view to_string(v1::Record::Kind kind);
[[nodiscard]] std::string_view to_string(v1::Record::Event event);
[[nodiscard]] std::string_view to_string(v1::Record::Direction direction);
[[nodiscard]] std::string_view to_string(v1::Record::Reason reason);
[[nodiscard]] std::string protocol_name(std::uint32_t number);
[[nodiscard]] std::string ip_to_string(const std::string& bytes); // 4 or 16 bytes; "" when neither

} // namespace bulkhead::record
