// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <optional>
#include <string>
#include <string_view>

namespace bulkhead::cli {

[[nodiscard]] Result<std::string> gzip(std::string_view bytes);
// nullopt: cannot be read, is no gzip file, or is more than 16 MiB.
[[nodiscard]] std::optional<std::string> gunzip_file(const std::string& path);

} // namespace bulkhead::cli
