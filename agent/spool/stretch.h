// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/file_operations.h"
#include "agent/spool/record_frame.h"
#include "agent/spool/segment.h"
#include "record.pb.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace bulkhead::agent {

inline constexpr std::size_t read_chunk_bytes = 1U << 20;
static_assert(read_chunk_bytes > frame_header_bytes + max_payload_bytes, "a chunk holds at least one frame");

// One stretch of one segment, read without the lock.
struct Stretch {
    SegmentFile::Position position;
    std::uint64_t end_offset = 0;
    std::uint64_t from = 0, end_seq = 0;
    std::size_t limit = 0, byte_limit = 0;
};

struct StretchRead {
    std::vector<v1::Record> records;
    std::size_t bytes = 0;
    std::optional<std::uint64_t> bad_seq; // where reading stopped because of damage
    bool unparsable = false;              // the frame at bad_seq is whole, but holds no record of that number
};

[[nodiscard]] StretchRead read_stretch(FileOperations& files, int fd, const Stretch& stretch);

} // namespace bulkhead::agent
