// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "record.pb.h"

#include <cstdint>
#include <vector>

namespace bulkhead::agent {

// Records that are gone and not yet reported by a gap record.
class Losses {
public:
    struct Range {
        std::uint64_t from = 0, to = 0; // seq, inclusive
        std::uint64_t count = 0;        // with what lost gap records had reported, so it may exceed the range
    };

    // A record that got no number, because it could not be written.
    void add_unnumbered(std::uint64_t count) { unnumbered_ += count; }
    void add_range(const Range& range);

    [[nodiscard]] bool empty() const { return unnumbered_ == 0 && ranges_.empty(); }
    [[nodiscard]] std::uint64_t unnumbered() const { return unnumbered_; }

    // Takes out what the next gap record is to say. Only when not empty().
    [[nodiscard]] v1::Lost take();
    // It could not be written.
    void put_back(const v1::Lost& lost);

private:
    std::uint64_t unnumbered_ = 0;
    std::vector<Range> ranges_; // in order; bounded
};

} // namespace bulkhead::agent
