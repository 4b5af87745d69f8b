// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <string>

namespace bulkhead::cli {

// A YAML document written anew, without comments and without the values of keys that are named for a secret, wherever
// else an alias shows them. Aliases stay aliases, so nothing grows.
[[nodiscard]] Result<std::string> yaml_without_secrets(const std::string& text);

} // namespace bulkhead::cli
