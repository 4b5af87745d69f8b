// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/utf8.h"

#include <algorithm>
#include <cstdint>

namespace bulkhead::agent {
namespace {

// Length of the character at the front, 0 when there is none (RFC 3629: no overlong forms, no surrogates).
std::size_t character_length(std::string_view bytes)
{
    const auto byte = [bytes](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
    const auto first = byte(0);
    if (first < 0x80)
        return 1;
    std::size_t length = 0;
    std::uint8_t second_from = 0x80;
    std::uint8_t second_to = 0xbf;
    if (first >= 0xc2 && first <= 0xdf) {
        length = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        length = 3;
        second_from = first == 0xe0 ? 0xa0 : 0x80;
        second_to = first == 0xed ? 0x9f : 0xbf;
    } else if (first >= 0xf0 && first <= 0xf4) {
        length = 4;
        second_from = first == 0xf0 ? 0x90 : 0x80;
        second_to = first == 0xf4 ? 0x8f : 0xbf;
    }
    if (length == 0 || bytes.size() < length || byte(1) < second_from || byte(1) > second_to)
        return 0;
    for (std::size_t i = 2; i < length; ++i)
        if ((byte(i) & 0xc0) != 0x80)
            return 0;
    return length;
}

constexpr const char* ellipsis = "\xe2\x80\xa6";

bool continues(char byte)
{
    return (static_cast<std::uint8_t>(byte) & 0xc0) == 0x80;
}

} // namespace

std::string as_utf8(std::string_view bytes)
{
    std::string text;
    text.reserve(bytes.size());
    while (!bytes.empty()) {
        const auto length = character_length(bytes);
        text += length == 0 ? std::string_view("\xef\xbf\xbd") : bytes.substr(0, length);
        bytes.remove_prefix(std::max<std::size_t>(length, 1));
    }
    return text;
}

std::string beginning_of(std::string text, std::size_t most)
{
    if (text.size() <= most)
        return text;
    while (most > 0 && continues(text[most]))
        --most;
    text.resize(most);
    return text + ellipsis;
}

std::string end_of(std::string text, std::size_t most)
{
    if (text.size() <= most)
        return text;
    auto from = text.size() - most;
    while (from < text.size() && continues(text[from]))
        ++from;
    return ellipsis + text.substr(from);
}

} // namespace bulkhead::agent
