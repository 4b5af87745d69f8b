// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/stretch.h"

#include <algorithm>
#include <string_view>

namespace bulkhead::agent {

StretchRead read_stretch(FileOperations& files, int fd, const Stretch& stretch)
{
    StretchRead result;
    auto [seq, offset] = stretch.position;
    while (seq < stretch.end_seq && result.records.size() < stretch.limit && result.bytes < stretch.byte_limit) {
        const auto want = std::min<std::uint64_t>(read_chunk_bytes, stretch.end_offset - offset);
        const auto chunk = files.read_at(fd, static_cast<std::size_t>(want), offset);
        std::string_view bytes = chunk ? std::string_view(*chunk) : std::string_view();
        const auto before = seq;
        while (const auto frame = seq < stretch.end_seq ? decode_frame(bytes) : std::nullopt) {
            if (result.records.size() == stretch.limit || result.bytes >= stretch.byte_limit)
                break;
            if (seq >= stretch.from) {
                v1::Record record;
                if (!record.ParseFromArray(frame->payload.data(), static_cast<int>(frame->payload.size())) ||
                    record.seq() != seq) {
                    result.bad_seq = seq;
                    result.unparsable = true;
                    return result;
                }
                result.records.push_back(std::move(record));
                result.bytes += frame->size;
            }
            bytes.remove_prefix(frame->size);
            offset += frame->size;
            ++seq;
        }
        if (seq == before) {
            result.bad_seq = std::max(seq, stretch.from);
            return result;
        }
    }
    return result;
}

} // namespace bulkhead::agent
