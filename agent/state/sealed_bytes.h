// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bulkhead::agent {

// What the agent's files are made of: little-endian numbers and counted blocks, with their SHA-256 at the end.
void put_number(std::string& out, std::uint64_t value, unsigned bytes);
void put_block(std::string& out, const std::string& block);
[[nodiscard]] std::string seal(std::string body); // the body and its checksum
// The body; nullopt when the checksum does not match.
[[nodiscard]] std::optional<std::string_view> unseal(std::string_view bytes);

// Takes numbers and blocks from the front; `ok` falls at the first that is not there.
struct SealedReader {
    std::string_view rest;
    bool ok = true;

    std::uint64_t number(unsigned bytes);
    std::string block();
};

} // namespace bulkhead::agent
