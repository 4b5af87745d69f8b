// SPDX-License-Identifier: Apache-2.0
#include "common/policy/glob.h"

#include <optional>
#include <vector>

namespace bulkhead::policy {
namespace {

struct Token {
    enum class Kind { literal, one, star, double_star, set } kind = Kind::literal;
    char literal = 0;
    bool negated = false;
    std::string_view set; // between the brackets
};

bool in_set(std::string_view set, char c)
{
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (i + 2 < set.size() && set[i + 1] == '-') {
            if (static_cast<unsigned char>(set[i]) <= static_cast<unsigned char>(c) &&
                static_cast<unsigned char>(c) <= static_cast<unsigned char>(set[i + 2]))
                return true;
            i += 2;
        } else if (set[i] == c) {
            return true;
        }
    }
    return false;
}

bool takes(const Token& token, char c)
{
    switch (token.kind) {
    case Token::Kind::literal: return token.literal == c;
    case Token::Kind::one:
    case Token::Kind::star: return c != '/';
    case Token::Kind::double_star: return true;
    case Token::Kind::set: return c != '/' && in_set(token.set, c) != token.negated;
    }
    return false;
}

// The token at the front of `rest`, which is cut off; nullopt when it is malformed.
std::optional<Token> next_token(std::string_view& rest)
{
    Token token;
    std::size_t length = 1;
    if (rest[0] == '\\') {
        if (rest.size() < 2)
            return std::nullopt;
        token.literal = rest[1];
        length = 2;
    } else if (rest[0] == '?') {
        token.kind = Token::Kind::one;
    } else if (rest[0] == '*') {
        length = rest.find_first_not_of('*');
        length = length == std::string_view::npos ? rest.size() : length;
        token.kind = length > 1 ? Token::Kind::double_star : Token::Kind::star;
    } else if (rest[0] == '[') {
        token.negated = rest.size() > 1 && rest[1] == '!';
        const std::size_t begin = token.negated ? 2 : 1;
        const auto end = rest.find(']', begin + 1); // a ']' that comes first is itself a member
        if (end == std::string_view::npos)
            return std::nullopt;
        token.kind = Token::Kind::set;
        token.set = rest.substr(begin, end - begin);
        length = end + 1;
    } else {
        token.literal = rest[0];
    }
    rest.remove_prefix(length);
    return token;
}

std::optional<std::vector<Token>> tokens_of(std::string_view pattern)
{
    std::vector<Token> tokens;
    while (!pattern.empty()) {
        auto token = next_token(pattern);
        if (!token)
            return std::nullopt;
        tokens.push_back(*token);
    }
    return tokens;
}

bool repeats(const Token& token)
{
    return token.kind == Token::Kind::star || token.kind == Token::Kind::double_star;
}

} // namespace

bool glob_matches(std::string_view pattern, std::string_view path)
{
    const auto tokens = tokens_of(pattern);
    if (!tokens)
        return false;
    // reached[i]: the path so far can be matched by the first i tokens. Walking all at once cannot backtrack for ever.
    std::vector<bool> reached(tokens->size() + 1, false);
    reached[0] = true;
    const auto skip_stars = [&](std::vector<bool>& states) {
        for (std::size_t i = 0; i < tokens->size(); ++i)
            if (states[i] && repeats((*tokens)[i]))
                states[i + 1] = true;
    };
    skip_stars(reached);
    for (const char c : path) {
        std::vector<bool> next(reached.size(), false);
        for (std::size_t i = 0; i < tokens->size(); ++i)
            if (reached[i] && takes((*tokens)[i], c))
                next[repeats((*tokens)[i]) ? i : i + 1] = true;
        skip_stars(next);
        reached = std::move(next);
    }
    return reached.back();
}

std::string glob_error(std::string_view pattern)
{
    while (!pattern.empty()) {
        const char first = pattern[0];
        if (!next_token(pattern))
            return first == '[' ? "'[' without ']'" : "'\\' at the end";
    }
    return {};
}

} // namespace bulkhead::policy
