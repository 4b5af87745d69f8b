// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace bulkhead::cli {

// Standard output of a program that ended well, at most 4 MiB of it; nullopt: it is not there, failed, or took longer
// than ten seconds. Its standard error is thrown away.
[[nodiscard]] std::optional<std::string> run_program(const std::vector<std::string>& argv);

} // namespace bulkhead::cli
