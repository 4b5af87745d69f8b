// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace bulkhead::agent {

// CRC-32C (Castagnoli; RFC 3720, appendix B.4). `before` continues a sum: crc32c(b, crc32c(a)) == crc32c(a + b).
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes, std::uint32_t before = 0);

} // namespace bulkhead::agent
