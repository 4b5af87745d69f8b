// SPDX-License-Identifier: Apache-2.0
#include "cli/host/unit_options.h"

#include "cli/host/words.h"

#include <sstream>

namespace bulkhead::cli {
namespace {

constexpr WordRules words_of_systemd{"\"'", "", true};
constexpr std::string_view variable = "BULKHEAD_OPTIONS=";

// A line goes on behind a backslash at its end.
std::string joined(std::string_view text)
{
    std::string whole(text);
    for (auto at = whole.find("\\\n"); at != std::string::npos; at = whole.find("\\\n", at))
        whole.erase(at, 2);
    return whole;
}

std::string last_value(std::string_view environment)
{
    std::string value;
    std::istringstream lines(joined(environment));
    for (std::string line; std::getline(lines, line);)
        if (const auto begin = line.find_first_not_of(" \t"); begin != std::string::npos)
            if (line.compare(begin, variable.size(), variable) == 0)
                value = line.substr(begin + variable.size());
    return value;
}

} // namespace

std::vector<std::string> unit_options(std::string_view environment)
{
    auto value = last_value(environment);
    if (const auto first = value.find_first_not_of(" \t"); first == std::string::npos)
        return {};
    else if (words_of_systemd.quotes.find(value[first]) != std::string_view::npos)
        value = split_words(value, words_of_systemd).front().text;
    std::vector<std::string> options;
    for (auto& word : split_words(value, words_of_systemd))
        options.push_back(std::move(word.text));
    return options;
}

std::optional<std::string> take_flag(std::vector<std::string>& options, std::string_view name)
{
    std::optional<std::string> value;
    for (auto at = options.begin(); at != options.end();)
        if (*at == name && at + 1 != options.end()) {
            value = *(at + 1);
            at = options.erase(at, at + 2);
        } else if (at->starts_with(name) && at->compare(name.size(), 1, "=") == 0) {
            value = at->substr(name.size() + 1);
            at = options.erase(at);
        } else {
            ++at;
        }
    return value;
}

} // namespace bulkhead::cli
