// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bulkhead::agent {

// A line of /proc/PID/mountinfo (proc(5)).
struct Mount {
    std::uint64_t id = 0;
    std::uint32_t device = 0; // kernel dev_t: s_dev of the file system, which stat(2) may show otherwise
    std::string_view point;   // a part of the line, escaped, and seen from the root of the process that was asked
};
[[nodiscard]] std::optional<Mount> parse_mount(const std::string& line);

// With what mountinfo writes as \ooo written so.
[[nodiscard]] std::string as_in_mountinfo(std::string_view path);

[[nodiscard]] bool is_at_or_below(std::string_view path, std::string_view top);

} // namespace bulkhead::agent
