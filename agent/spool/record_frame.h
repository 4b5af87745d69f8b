// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bulkhead::agent {

// How one record lies in a segment; see docs/spool-format.md.
struct Frame {
    std::string_view payload; // into the bytes that were decoded
    bool is_gap = false;
    std::size_t size = 0; // of the whole frame
};

inline constexpr std::size_t frame_header_bytes = 8;
inline constexpr std::size_t max_payload_bytes = 256U << 10;

// `payload` is neither empty nor over max_payload_bytes.
[[nodiscard]] std::string encode_frame(std::string_view payload, bool is_gap);
// The frame at the front of `bytes`. nullopt when it is cut short or its sum is wrong.
[[nodiscard]] std::optional<Frame> decode_frame(std::string_view bytes);
// Where the next frame would begin if only the payload of this one were damaged; nullopt when even the length makes no
// sense.
[[nodiscard]] std::optional<std::size_t> claimed_frame_size(std::string_view bytes);

// Fixed-width integers on disk are little-endian.
void put_u32(std::uint32_t value, std::string& out);
void put_u64(std::uint64_t value, std::string& out);
[[nodiscard]] std::uint32_t get_u32(std::string_view bytes); // of the first four bytes, which are there
[[nodiscard]] std::uint64_t get_u64(std::string_view bytes); // of the first eight

} // namespace bulkhead::agent
