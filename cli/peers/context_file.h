// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <string>

namespace bulkhead::cli {

// One entry of the context file: where a controller is and who we are to it.
struct ControllerContext {
    std::string name, controller, ca, certificate, key; // PEM
};

// BULKHEAD_CONFIG, else $XDG_CONFIG_HOME or ~/.config, /bulkhead/config.yaml. Empty when there is no home.
[[nodiscard]] std::string default_context_path();

// The current context of the file. Errors: invalid, with the place and the mend.
[[nodiscard]] Result<ControllerContext> read_context(const std::string& path);

} // namespace bulkhead::cli
