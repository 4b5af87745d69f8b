// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/segment.h"

#include "agent/spool/crc32c.h"
#include "agent/spool/record_frame.h"

#include <fcntl.h>

namespace bulkhead::agent {
namespace {

constexpr std::string_view magic{"BHSPOOL\1", 8};
constexpr std::size_t summed_header_bytes = 28;

// A gap record whose payload cannot be parsed has a right sum and was written so; it counts as one record.
void note_gap(const Frame& frame, std::uint64_t seq, SegmentScan& scan)
{
    v1::Record record;
    if (record.ParseFromArray(frame.payload.data(), static_cast<int>(frame.payload.size())))
        scan.gaps.push_back({seq, record.lost()});
}

// Follows the lengths from the first bad frame on.
void look_behind_damage(std::string_view rest, SegmentScan& scan)
{
    scan.claimed = scan.count;
    std::uint64_t frames = scan.count;
    while (const auto size = claimed_frame_size(rest)) {
        ++frames;
        if (decode_frame(rest)) {
            scan.damaged = true;
            scan.claimed = frames;
        }
        rest.remove_prefix(*size);
    }
}

} // namespace

std::string encode_segment_header(const SegmentHeader& header)
{
    std::string bytes(magic);
    put_u64(header.first_seq, bytes);
    put_u64(header.acknowledged, bytes);
    put_u32(0, bytes);
    put_u32(crc32c(bytes), bytes);
    return bytes;
}

std::optional<SegmentHeader> decode_segment_header(std::string_view bytes)
{
    if (bytes.size() < segment_header_bytes || !bytes.starts_with(magic) ||
        crc32c(bytes.substr(0, summed_header_bytes)) != get_u32(bytes.substr(summed_header_bytes)))
        return std::nullopt;
    const SegmentHeader header{get_u64(bytes.substr(8)), get_u64(bytes.substr(16))};
    if (header.first_seq == 0 || header.first_seq > max_seq || header.acknowledged > max_seq)
        return std::nullopt;
    return header;
}

std::optional<SegmentScan> scan_segment(std::string_view bytes)
{
    const auto header = decode_segment_header(bytes);
    if (!header)
        return std::nullopt;
    SegmentScan scan;
    scan.header = *header;
    scan.good_bytes = segment_header_bytes;
    bytes.remove_prefix(segment_header_bytes);
    while (const auto frame = decode_frame(bytes)) {
        if (scan.count % SegmentFile::index_step == 0)
            scan.index.push_back(static_cast<std::uint32_t>(scan.good_bytes));
        if (frame->is_gap)
            note_gap(*frame, header->first_seq + scan.count, scan);
        ++scan.count;
        scan.good_bytes += frame->size;
        bytes.remove_prefix(frame->size);
    }
    look_behind_damage(bytes, scan);
    return scan;
}

Result<std::shared_ptr<SegmentFile>> SegmentFile::create(FileOperations& files, const std::string& path,
                                                         const SegmentHeader& header)
{
    // O_TRUNC: a file of this name can only be the torn beginning of an earlier attempt, since no record has its
    // number.
    BULKHEAD_TRY(auto fd, files.open(path, O_RDWR | O_CREAT | O_TRUNC));
    if (auto written = files.write_at(fd.get(), encode_segment_header(header), 0); !written) {
        (void)files.remove(path); // an empty segment is dropped at the next start as well
        return tl::unexpected(std::move(written).error().within(path));
    }
    SegmentScan scan;
    scan.header = header;
    scan.good_bytes = segment_header_bytes;
    return std::make_shared<SegmentFile>(path, std::move(fd), std::move(scan));
}

Status SegmentFile::append(FileOperations& files, std::string_view frame, const v1::Lost* gap)
{
    const auto seq = next_seq();
    const std::size_t size = frame.size();
    BULKHEAD_CHECK(append(files, frame, {&size, 1}));
    if (gap != nullptr)
        scan_.gaps.push_back({seq, *gap});
    return {};
}

Status SegmentFile::append(FileOperations& files, std::string_view frames, std::span<const std::size_t> sizes)
{
    if (auto written = files.write_at(fd_.get(), frames, scan_.good_bytes); !written) {
        (void)files.truncate(fd_.get(), scan_.good_bytes); // gives the blocks back; a reader stops there in any case
        return tl::unexpected(std::move(written).error().within(path_));
    }
    for (const auto size : sizes) {
        if (scan_.count % index_step == 0)
            scan_.index.push_back(static_cast<std::uint32_t>(scan_.good_bytes));
        ++scan_.count;
        scan_.good_bytes += size;
    }
    return {};
}

SegmentFile::Position SegmentFile::position_before(std::uint64_t seq) const
{
    const auto step = (seq - first_seq()) / index_step;
    return {first_seq() + step * index_step, scan_.index.at(step)};
}

} // namespace bulkhead::agent
