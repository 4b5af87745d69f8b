// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace bulkhead::cli {

// The manual page of one command group ("policy", "flows"), in man(7) macros, section 1. Read from the command tree, so
// that an option without a page cannot be. `date` is shown in the foot (YYYY-MM-DD).
[[nodiscard]] std::string man_page(const CLI::App& group, const std::string& date);

} // namespace bulkhead::cli
