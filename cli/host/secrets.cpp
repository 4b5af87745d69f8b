// SPDX-License-Identifier: Apache-2.0
#include "cli/host/secrets.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <tuple>

namespace bulkhead::cli {
namespace {

constexpr std::string_view removed = "[removed]";
constexpr std::string_view token_begins = "bulkhead-join-";
constexpr std::size_t shortest = 12; // what is shorter could be any word

bool is_token_byte(char c)
{
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
}

std::string lower(std::string_view text)
{
    std::string small(text);
    std::transform(small.begin(), small.end(), small.begin(), [](unsigned char c) { return std::tolower(c); });
    return small;
}

std::size_t end_of_token(std::string_view text, std::size_t begin)
{
    while (begin < text.size() && is_token_byte(text[begin]))
        ++begin;
    return begin;
}

// The block of a private key from `from` on: [begin, end); begin is npos when there is none. One without an end goes on
// to the end of the text.
std::pair<std::size_t, std::size_t> key_block(std::string_view text, std::size_t from)
{
    for (auto begin = text.find("-----BEGIN ", from); begin != std::string_view::npos;
         begin = text.find("-----BEGIN ", begin + 1)) {
        const auto label = text.substr(begin, text.find('\n', begin) - begin);
        if (label.find("PRIVATE KEY") == std::string_view::npos)
            continue;
        const auto end = text.find("-----END ", begin);
        const auto last = end == std::string_view::npos ? end : text.find("-----", end + 9);
        return {begin, last == std::string_view::npos ? text.size() : last + 5};
    }
    return {std::string_view::npos, 0};
}

std::string_view trim(std::string_view line)
{
    constexpr std::string_view blanks = " \t\r";
    const auto begin = line.find_first_not_of(blanks);
    return begin == std::string_view::npos ? "" : line.substr(begin, line.find_last_not_of(blanks) - begin + 1);
}

void replace_all(std::string& text, std::string_view what)
{
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + removed.size()))
        text.replace(at, what.size(), removed);
}

} // namespace

bool names_a_secret(std::string_view key)
{
    static constexpr std::array names = {"join",    "token",      "secret",  "password", "passphrase",
                                         "private", "credential", "api_key", "apikey"};
    const auto small = lower(key);
    return std::any_of(names.begin(), names.end(),
                       [&](const char* name) { return small.find(name) != std::string::npos; });
}

namespace {

// key: value, key = value, "key": value and --key value, one a line.
std::string without_values(std::string_view line)
{
    const auto colon = line.find_first_of(":=");
    if (colon == std::string_view::npos)
        return std::string(line);
    const auto key = line.substr(0, colon);
    const auto begin = key.find_first_not_of(" \t-\"'{,");
    const bool one_word = begin != std::string_view::npos && key.find(' ', begin) == std::string_view::npos;
    return one_word && names_a_secret(key) ? std::string(line.substr(0, colon + 1)) + " " + std::string(removed)
                                           : std::string(line);
}

} // namespace

void SecretFilter::learn(std::string_view text)
{
    for (auto [begin, end] = key_block(text, 0); begin != std::string_view::npos;
         std::tie(begin, end) = key_block(text, end)) {
        std::string_view block = text.substr(begin, end - begin);
        while (!block.empty()) {
            const auto line = block.substr(0, block.find('\n'));
            if (const auto text_of = trim(line);
                text_of.size() >= shortest && text_of.find("-----") == std::string_view::npos)
                known_.emplace_back(text_of);
            block.remove_prefix(std::min(block.size(), line.size() + 1));
        }
    }
    for (auto at = text.find(token_begins); at != std::string_view::npos; at = text.find(token_begins, at + 1)) {
        const auto token = text.substr(at, end_of_token(text, at) - at);
        const auto dot = token.find('.');
        const auto secret = dot == std::string_view::npos ? token : token.substr(dot + 1, token.rfind('.') - dot - 1);
        if (secret.size() >= shortest)
            known_.emplace_back(secret);
    }
}

std::string SecretFilter::clean_known(std::string_view text) const
{
    std::string whole(text);
    for (auto [begin, end] = key_block(whole, 0); begin != std::string::npos;
         std::tie(begin, end) = key_block(whole, begin + removed.size()))
        whole.replace(begin, end - begin, removed);
    for (auto at = whole.find(token_begins); at != std::string::npos; at = whole.find(token_begins, at + 1))
        whole.replace(at, end_of_token(whole, at) - at, removed);
    for (const auto& secret : known_)
        replace_all(whole, secret);
    return whole;
}

std::string SecretFilter::clean(std::string_view text) const
{
    const auto whole = clean_known(text);
    std::string cleaned;
    for (std::size_t begin = 0; begin < whole.size();) {
        const auto end = std::min(whole.find('\n', begin), whole.size());
        cleaned += without_values(std::string_view(whole).substr(begin, end - begin));
        if (end < whole.size())
            cleaned += '\n';
        begin = end + 1;
    }
    return cleaned;
}

} // namespace bulkhead::cli
