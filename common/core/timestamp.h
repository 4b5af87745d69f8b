// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace bulkhead {

// RFC 3339 ("2026-11-21T01:43:59.000123Z", "2026-11-21T02:43:59+01:00") to microseconds since 1970, UTC. Finer
// fractions are cut off. nullopt when malformed.
[[nodiscard]] std::optional<std::int64_t> parse_rfc3339_micros(std::string_view text);

} // namespace bulkhead
