// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/file_operations.h"

#include <cstdint>

namespace bulkhead::agent {

// What must outlive the segments.
struct SpoolState {
    std::uint64_t acknowledged = 0;
    std::uint64_t next_seq = 1;   // no number below was left for later: it was used
    std::uint64_t lost = 0;       // since the folder was made
    std::uint64_t unreported = 0; // records without a number that no gap record tells of yet
    bool operator==(const SpoolState&) const = default;
};

// Two slots, written in turn: a torn write spoils one, the other holds. It never grows, so a full disk does not stop
// it.
class StateFile {
public:
    // A file without a valid slot gives the initial state: records are then delivered again, never lost.
    static Result<StateFile> open(FileOperations& files, const std::string& path);

    [[nodiscard]] const SpoolState& state() const { return state_; }
    // Nothing is written when the state is what was written last.
    Status write(const SpoolState& state);
    Status sync();

private:
    StateFile(FileOperations& files, UniqueFd fd) : files_(&files), fd_(std::move(fd)) {}
    Status load();
    Status write_slot(const SpoolState& state);

    FileOperations* files_;
    UniqueFd fd_;
    SpoolState state_;
    std::uint64_t generation_ = 0; // of the newest valid slot
};

} // namespace bulkhead::agent
