// SPDX-License-Identifier: Apache-2.0
#include "cli/host/words.h"

#include <utility>

namespace bulkhead::cli {
namespace {

bool is_one_of(char c, std::string_view set)
{
    return set.find(c) != std::string_view::npos;
}

} // namespace

std::vector<Word> split_words(std::string_view line, const WordRules& rules)
{
    std::vector<Word> words;
    bool open = false; // the last word can still grow
    char quote = 0;
    const auto word = [&]() -> Word& {
        if (!std::exchange(open, true))
            words.emplace_back();
        return words.back();
    };
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (rules.escapes && c == '\\' && quote != '\'' && i + 1 < line.size()) {
            word().text += line[++i];
        } else if (quote != 0) {
            if (c == quote)
                quote = 0;
            else
                word().text += c;
        } else if (is_one_of(c, rules.quotes)) {
            quote = c;
            word().quoted = true;
        } else if (is_one_of(c, " \t\r\n")) {
            open = false;
        } else if (is_one_of(c, rules.punctuation)) {
            words.push_back({std::string(1, c)});
            open = false;
        } else if (c == '#' && rules.comments && !open) {
            break;
        } else {
            word().text += c;
        }
    }
    return words;
}

} // namespace bulkhead::cli
