// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/record_frame.h"

#include "agent/spool/crc32c.h"

namespace bulkhead::agent {
namespace {

constexpr std::uint32_t gap_flag = 0x80000000;

template <typename Integer>
void put(Integer value, std::string& out)
{
    for (unsigned i = 0; i < sizeof value; ++i)
        out.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
}

template <typename Integer>
Integer get(std::string_view bytes)
{
    Integer value = 0;
    for (unsigned i = 0; i < sizeof value; ++i)
        value |= static_cast<Integer>(static_cast<unsigned char>(bytes[i])) << (8 * i);
    return value;
}

// The length is summed too: a wrong length must not pass for a right one.
std::uint32_t sum(std::string_view length_field, std::string_view payload)
{
    return crc32c(payload, crc32c(length_field));
}

} // namespace

void put_u32(std::uint32_t value, std::string& out)
{
    put(value, out);
}
void put_u64(std::uint64_t value, std::string& out)
{
    put(value, out);
}
std::uint32_t get_u32(std::string_view bytes)
{
    return get<std::uint32_t>(bytes);
}
std::uint64_t get_u64(std::string_view bytes)
{
    return get<std::uint64_t>(bytes);
}

std::string encode_frame(std::string_view payload, bool is_gap)
{
    std::string frame;
    frame.reserve(frame_header_bytes + payload.size());
    put_u32(static_cast<std::uint32_t>(payload.size()) | (is_gap ? gap_flag : 0), frame);
    put_u32(sum(frame, payload), frame);
    frame.append(payload);
    return frame;
}

std::optional<std::size_t> claimed_frame_size(std::string_view bytes)
{
    if (bytes.size() < frame_header_bytes)
        return std::nullopt;
    const std::size_t length = get_u32(bytes) & ~gap_flag;
    if (length == 0 || length > max_payload_bytes || length > bytes.size() - frame_header_bytes)
        return std::nullopt;
    return frame_header_bytes + length;
}

std::optional<Frame> decode_frame(std::string_view bytes)
{
    const auto size = claimed_frame_size(bytes);
    if (!size)
        return std::nullopt;
    const auto payload = bytes.substr(frame_header_bytes, *size - frame_header_bytes);
    if (sum(bytes.substr(0, 4), payload) != get_u32(bytes.substr(4)))
        return std::nullopt;
    return Frame{payload, (get_u32(bytes) & gap_flag) != 0, *size};
}

} // namespace bulkhead::agent
