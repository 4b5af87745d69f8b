// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/context.h"
#include "common/policy/parse.h"

#include <tl/expected.hpp>

#include <string>
#include <vector>

namespace bulkhead::cli {

struct CheckedFiles {
    std::vector<policy::SourceFile> files;
    policy::PolicySet policy;
};

// Reads and parses; on failure everything has been said and the exit code is returned.
[[nodiscard]] tl::expected<CheckedFiles, int> read_checked(const std::vector<std::string>& paths, Context& context);

} // namespace bulkhead::cli
