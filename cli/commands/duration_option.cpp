// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/duration_option.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

namespace bulkhead::cli {
namespace {

using std::chrono::milliseconds;

// Largest first.
constexpr std::array<std::pair<std::string_view, std::int64_t>, 5> units{
    {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};

std::optional<milliseconds> parse_duration(std::string_view text)
{
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number < 0)
        return std::nullopt;
    const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    for (const auto& [name, factor] : units)
        if (unit == name)
            return number > INT64_MAX / factor ? std::nullopt : std::optional(milliseconds(number * factor));
    return std::nullopt;
}

} // namespace

std::string duration_text(milliseconds duration)
{
    for (const auto& [name, factor] : units)
        if (duration.count() != 0 && duration.count() % factor == 0)
            return fmt::format("{}{}", duration.count() / factor, name);
    return "0s";
}

CLI::Option* add_duration(CLI::App& command, const std::string& name, milliseconds& target, const std::string& help,
                          DurationBounds bounds)
{
    const auto take = [&target, bounds, name](const CLI::results_t& given) {
        const auto duration = parse_duration(given.front());
        if (!duration)
            throw CLI::ValidationError(name, fmt::format("'{}' is no duration: write 30s, 5m or 1h", given.front()));
        if (*duration < bounds.least || *duration > bounds.most)
            throw CLI::ValidationError(name, fmt::format("{} is not from {} to {}", given.front(),
                                                         duration_text(bounds.least), duration_text(bounds.most)));
        target = *duration;
        return true;
    };
    return command.add_option(name, take, help)->type_name("DURATION");
}

} // namespace bulkhead::cli
