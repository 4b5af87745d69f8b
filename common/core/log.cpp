// SPDX-License-Identifier: Apache-2.0
#include "common/core/log.h"

#include "common/core/clock.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <string>
#include <unistd.h>

namespace bulkhead {
namespace {

struct LevelName {
    std::string_view name;
    int syslog_priority; // sd-daemon(3)
};
constexpr std::array<LevelName, 4> levels{{{"error", 3}, {"warning", 4}, {"info", 6}, {"debug", 7}}};

std::atomic<LogLevel> threshold{LogLevel::info};

} // namespace

std::optional<LogLevel> parse_log_level(std::string_view text)
{
    for (std::size_t i = 0; i < levels.size(); ++i)
        if (levels[i].name == text)
            return static_cast<LogLevel>(i);
    return std::nullopt;
}

void set_log_level(LogLevel level)
{
    threshold = level;
}

bool log_enabled(LogLevel level)
{
    return level <= threshold.load(std::memory_order_relaxed);
}

void log_line(LogLevel level, std::string_view text)
{
    if (!log_enabled(level))
        return;
    static const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
    const auto& name = levels[static_cast<std::size_t>(level)];
    std::string line = journal ? fmt::format("<{}>", name.syslog_priority)
                               : fmt::format("{} {:<7} ", format_rfc3339(system_clock().wall()), name.name);
    for (const char c : text) // a process name or a peer's text must not forge a second line
        line += (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) ? '?' : c;
    line += '\n';
    // One write(2) a line keeps lines of several threads apart; a log that cannot be written has nowhere to complain.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

} // namespace bulkhead
