// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string_view>

namespace bulkhead {

// The daemons' diagnostic log: one line an entry on stderr. Under systemd (JOURNAL_STREAM set) each line carries the
// <N> priority prefix of sd-daemon(3); elsewhere a time and a level word. Thread-safe.
enum class LogLevel { error, warning, info, debug };

[[nodiscard]] std::optional<LogLevel> parse_log_level(std::string_view text);
void set_log_level(LogLevel level);
[[nodiscard]] bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view text);

template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args)
{
    log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args)
{
    log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args)
{
    log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args)
{
    if (log_enabled(LogLevel::debug))
        log_line(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}

} // namespace bulkhead
