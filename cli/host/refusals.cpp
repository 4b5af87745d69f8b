// SPDX-License-Identifier: Apache-2.0
#include "cli/host/refusals.h"

#include "cli/host/words.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <sstream>

namespace bulkhead::cli {
namespace {

// Strings of nft(8) know no escapes, those of iptables-save(8) do.
constexpr WordRules nft_words{"\"", "{},;", false, true};
constexpr WordRules iptables_words{"\"", "", true, true};

constexpr std::array<std::string_view, 4> targets{"DROP", "REJECT", "NFQUEUE", "QUEUE"};

template <typename List>
bool holds(const List& list, std::string_view text)
{
    return std::find(std::begin(list), std::end(list), text) != std::end(list);
}

// The elements of a set or map go over several lines.
std::vector<Word> next_statement(std::istringstream& lines, std::string line)
{
    auto words = split_words(line, nft_words);
    if (words.empty() || words.front().text != "elements")
        return words;
    const auto closed = [&] { return words.back().text == "}" && !words.back().quoted; };
    while (!closed() && std::getline(lines, line))
        for (auto& word : split_words(line, nft_words))
            words.push_back(std::move(word));
    return words;
}

// Of words that are no verdict: the names of chains that iptables-nft made.
bool is_name(std::string_view before)
{
    static constexpr std::array<std::string_view, 3> named{"chain", "jump", "goto"};
    return holds(named, before);
}

} // namespace

Refusals count_nft(const std::string& ruleset)
{
    static constexpr std::array<std::string_view, 3> verdicts{"drop", "reject", "queue"};
    Refusals found;
    std::istringstream lines(ruleset);
    for (std::string line; std::getline(lines, line);) {
        const auto words = next_statement(lines, line);
        bool refuses = false;
        for (std::size_t i = 0; i < words.size(); ++i) {
            std::string_view before;
            if (i > 0 && !words[i - 1].quoted)
                before = words[i - 1].text;
            if (words[i].quoted) // xt target "REJECT": what nft cannot put into its own words
                refuses = refuses || (before == "target" && holds(targets, words[i].text));
            else if (before == "policy")
                found.policies += words[i].text == "drop" ? 1 : 0;
            else
                refuses = refuses || (holds(verdicts, words[i].text) && !is_name(before));
        }
        found.rules += refuses ? 1 : 0;
    }
    return found;
}

Refusals count_iptables(const std::string& saved)
{
    Refusals found;
    std::istringstream lines(saved);
    for (std::string line; std::getline(lines, line);) {
        const auto words = split_words(line, iptables_words);
        if (line.starts_with(":")) {
            found.policies += words.size() > 1 && words[1].text == "DROP" ? 1 : 0;
            continue;
        }
        for (std::size_t i = 1; i < words.size(); ++i)
            if (words[i - 1].text == "-j" && !words[i - 1].quoted && holds(targets, words[i].text)) {
                ++found.rules;
                break;
            }
    }
    return found;
}

} // namespace bulkhead::cli
