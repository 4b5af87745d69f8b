// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "record.pb.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace bulkhead::record
{

inline constexpr char32_t replacement_character = 0xfffd;

struct CodePoint {
    char32_t value = replacement_character;
    std::size_t length = 1; // bytes read; 1 when they are no UTF-8
};
// The first code point of a text that is not empty. Overlong forms, surrogates and truncated sequences are no UTF-8
// (RFC 3629): they give the replacement character, one for each byte.
[[nodiscard]] CodePoint next_code_point(std::string_view text);

[[nodiscard]] bool is_utf8(std::string_view text);
[[nodiscard]] std::string to_utf8(std::string_view text); // what is no UTF-8 becomes U+FFFD

// True for what may move a terminal's cursor or reorder what is read on it: C0 and C1 controls, DEL, line and paragraph
// separators, bidirectional overrides and isolates (Unicode TR 36, section 2.3).
[[nodiscard]] bool is_control(char32_t code_point);

// Makes every string of a record UTF-8, which protobuf demands: a record with a process name that is not could be
// written but never read again.
void make_utf8(v1::Record& record);

} // namespace bulkhead::record
