// SPDX-License-Identifier: Apache-2.0
#include "common/policy/source_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::policy {
namespace {

unsigned byte_at(std::string_view text, std::size_t i)
{
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
}

// Length of the UTF-8 sequence at `i`; 0 when there is none. RFC 3629, section 4: no overlong forms, no surrogates,
// nothing above U+10FFFF.
std::size_t utf8_length(std::string_view text, std::size_t i)
{
    const auto lead = byte_at(text, i);
    const auto second = byte_at(text, i + 1);
    const auto tail = [&text](std::size_t at) { return (byte_at(text, at) & 0xc0U) == 0x80U; };
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return tail(i + 1) ? 2 : 0;
    if (lead >= 0xe0 && lead <= 0xef) {
        const auto low = lead == 0xe0 ? 0xa0U : 0x80U;
        const auto high = lead == 0xed ? 0x9fU : 0xbfU;
        return second >= low && second <= high && tail(i + 2) ? 3 : 0;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        const auto low = lead == 0xf0 ? 0x90U : 0x80U;
        const auto high = lead == 0xf4 ? 0x8fU : 0xbfU;
        return second >= low && second <= high && tail(i + 2) && tail(i + 3) ? 4 : 0;
    }
    return 0;
}

bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

} // namespace

std::optional<YamlFinding> first_bad_byte(std::string_view text)
{
    int line = 1;
    std::size_t line_start = 0;
    for (std::size_t i = 0; i < text.size();) {
        const auto length = utf8_length(text, i);
        const auto c = static_cast<unsigned char>(text[i]);
        const auto column = static_cast<int>(i - line_start + 1);
        if (length == 0)
            return YamlFinding{line, column, fmt::format("byte 0x{:02x} is not UTF-8", c),
                               "save the file as UTF-8 text"};
        if (is_control(c) && c != '\n' && c != '\t' && !(c == '\r' && byte_at(text, i + 1) == '\n'))
            return YamlFinding{line, column, fmt::format("control character 0x{:02x}", c),
                               "remove it: a policy is plain text"};
        i += length;
        if (c == '\n') {
            ++line;
            line_start = i;
        }
    }
    return std::nullopt;
}

bool is_printable(std::string_view text, bool multiline)
{
    return std::none_of(text.begin(), text.end(), [multiline](char c) {
        return is_control(static_cast<unsigned char>(c)) && !(multiline && (c == '\n' || c == '\t'));
    });
}

} // namespace bulkhead::policy
