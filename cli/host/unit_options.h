// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::cli {

// The flags that the agent's unit adds to its command: BULKHEAD_OPTIONS in the text of its EnvironmentFile=
// (systemd.exec(5)), which is parted at blanks outside of quotes (systemd.service(5)).
[[nodiscard]] std::vector<std::string> unit_options(std::string_view environment);

// The value of `--name VALUE` or `--name=VALUE`, the last one; all of them are removed.
[[nodiscard]] std::optional<std::string> take_flag(std::vector<std::string>& options, std::string_view name);

} // namespace bulkhead::cli
