// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace bulkhead::policy {

// glob(7) on a whole path: `?` and `*` match anything but '/', `**` matches '/' too, `[a-z]`, `[!a-z]` one character of
// a set (never '/'), `\` takes the next character as it is. Pure; time is bounded by pattern length x path length.
[[nodiscard]] bool glob_matches(std::string_view pattern, std::string_view path);

// What is wrong with a pattern ("'[' without ']'"), or empty.
[[nodiscard]] std::string glob_error(std::string_view pattern);

} // namespace bulkhead::policy
