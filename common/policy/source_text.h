// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/yaml_tree.h"

#include <optional>
#include <string_view>

namespace bulkhead::policy {

// The first byte that policy text cannot have: not UTF-8 (RFC 3629), or a control character other than tab and newline.
[[nodiscard]] std::optional<YamlFinding> first_bad_byte(std::string_view text);

// True for text without control characters; tab and newline pass when `multiline`.
[[nodiscard]] bool is_printable(std::string_view text, bool multiline);

} // namespace bulkhead::policy
