// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace bulkhead {

// Of short inputs, some with every record: OpenSSL's SHA1() and SHA256() look their algorithm up anew in each call,
// which takes longer than the digest itself. None where the library offers no such algorithm: what is configured for
// FIPS 140 may do without SHA-1. Thread-safe.
[[nodiscard]] std::optional<std::array<std::uint8_t, 20>> sha1(std::string_view bytes);
[[nodiscard]] std::optional<std::array<std::uint8_t, 32>> sha256(std::string_view bytes);

} // namespace bulkhead
