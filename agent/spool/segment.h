// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/file_operations.h"
#include "record.pb.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace bulkhead::agent {

// What a gap record in a segment says, kept so that it can be told again if the segment must go undelivered.
struct HeldGap {
    std::uint64_t seq = 0;
    v1::Lost lost;
};

inline constexpr std::uint64_t max_seq = 1ULL << 62; // no sum of two overflows

struct SegmentHeader {
    std::uint64_t first_seq = 0;
    std::uint64_t acknowledged = 0; // when the segment was begun
};
inline constexpr std::size_t segment_header_bytes = 32;
[[nodiscard]] std::string encode_segment_header(const SegmentHeader& header);
[[nodiscard]] std::optional<SegmentHeader> decode_segment_header(std::string_view bytes);

// The whole of a segment file, read from its beginning to the first frame that is not whole.
struct SegmentScan {
    SegmentHeader header;
    std::uint64_t count = 0;      // whole records
    std::uint64_t good_bytes = 0; // header and whole records
    // Frames after the first bad one are whole: that is damage, not the torn end of the last write. Then `claimed`
    // counts all frames, the bad ones too.
    bool damaged = false;
    std::uint64_t claimed = 0;
    std::vector<std::uint32_t> index; // where every SegmentFile::index_step-th record begins
    std::vector<HeldGap> gaps;
};
// nullopt when the header is cut short or wrong. Pure.
[[nodiscard]] std::optional<SegmentScan> scan_segment(std::string_view bytes);

// One file of the log: appended to by the writer, read by anybody who holds it. first_seq and fd never change; the rest
// is guarded by the log's lock. An unlinked segment stays readable while somebody holds it.
class SegmentFile {
public:
    static constexpr std::uint64_t index_step = 64;

    static Result<std::shared_ptr<SegmentFile>> create(FileOperations& files, const std::string& path,
                                                       const SegmentHeader& header);
    SegmentFile(std::string path, UniqueFd fd, SegmentScan scan)
        : path_(std::move(path)), fd_(std::move(fd)), scan_(std::move(scan))
    {}

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] std::uint64_t first_seq() const { return scan_.header.first_seq; }
    [[nodiscard]] std::uint64_t acknowledged_at_start() const { return scan_.header.acknowledged; }
    [[nodiscard]] std::uint64_t next_seq() const { return first_seq() + scan_.count; }
    [[nodiscard]] std::uint64_t bytes() const { return scan_.good_bytes; }
    [[nodiscard]] const std::vector<HeldGap>& gaps() const { return scan_.gaps; }

    // Appends one frame for next_seq(). What an error leaves of it behind bytes() is overwritten by the next one.
    Status append(FileOperations& files, std::string_view frame, const v1::Lost* gap);
    // Several, of no gap records, of these sizes: all, or none as far as this object knows. Where the disk keeps some and
    // does not let them be cut off either, they are found again when the folder is opened next.
    Status append(FileOperations& files, std::string_view frames, std::span<const std::size_t> sizes);

    // Where the indexed record at or before `seq` begins, and its number.
    struct Position {
        std::uint64_t seq = 0, offset = 0;
    };
    [[nodiscard]] Position position_before(std::uint64_t seq) const;

private:
    std::string path_;
    UniqueFd fd_;
    SegmentScan scan_;
};

} // namespace bulkhead::agent
