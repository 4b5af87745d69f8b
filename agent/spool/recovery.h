// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/file_operations.h"
#include "agent/spool/losses.h"
#include "agent/spool/segment.h"
#include "agent/spool/state_file.h"

#include <deque>

namespace bulkhead::agent {

[[nodiscard]] std::string segment_path(const std::string& dir, std::uint64_t first_seq);

// What a folder holds when it is opened.
struct Recovered {
    std::deque<std::shared_ptr<SegmentFile>> segments; // in order, not overlapping, possibly with holes
    std::vector<Losses::Range> lost; // not acknowledged, not held and not told of by a held gap record
    std::uint64_t acknowledged = 0;
    std::uint64_t next_seq = 1;
};
[[nodiscard]] Result<Recovered> recover(FileOperations& files, const std::string& dir, const SpoolState& state);

// Sets a segment's file aside as PATH.damaged, and puts its whole records before the damage in its place. nullptr:
// there are none, or no room for them. A file without damage is left and returned.
[[nodiscard]] Result<std::shared_ptr<SegmentFile>> repair_segment(FileOperations& files, const std::string& dir,
                                                                  const std::string& path);

} // namespace bulkhead::agent
