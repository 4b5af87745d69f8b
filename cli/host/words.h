// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::cli {

struct Word {
    std::string text;
    bool quoted = false; // at least in part
};

// How a program writes words. Blanks part them.
struct WordRules {
    std::string_view quotes;      // what opens a quote and closes it; what is not closed goes on to the end
    std::string_view punctuation; // each a word by itself
    bool escapes = false;         // a backslash takes the next character as it is, but within single quotes
    bool comments = false;        // a word that begins with '#' ends the line
};

[[nodiscard]] std::vector<Word> split_words(std::string_view line, const WordRules& rules);

} // namespace bulkhead::cli
