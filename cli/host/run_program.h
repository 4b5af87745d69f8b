// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace bulkhead::cli {

struct ProgramEnd {
    int code = 0;
    std::string output; // standard output, the last 4 MiB of it
};

// nullopt: it is not there, was killed, or took longer than ten seconds. Looked for in PATH and in /usr/sbin. Its
// standard error is thrown away.
[[nodiscard]] std::optional<ProgramEnd> run_program(const std::vector<std::string>& argv);

} // namespace bulkhead::cli
