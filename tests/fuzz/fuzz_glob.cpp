// SPDX-License-Identifier: Apache-2.0
#include "common/policy/glob.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

// Pattern and path with a zero byte between them.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const std::string_view text(reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 4096));
    const auto cut = text.find('\0');
    const auto pattern = text.substr(0, cut);
    const auto path = cut == std::string_view::npos ? std::string_view() : text.substr(cut + 1);
    const bool matches = bulkhead::policy::glob_matches(pattern, path);
    if (matches && !bulkhead::policy::glob_error(pattern).empty())
        std::abort();
    // A text without special characters matches itself and nothing else.
    if (pattern.find_first_of("*?[\\") == std::string_view::npos && matches != (pattern == path))
        std::abort();
    return 0;
}
