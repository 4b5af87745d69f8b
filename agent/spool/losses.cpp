// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/losses.h"

#include <algorithm>
#include <utility>

namespace bulkhead::agent {
namespace {

// Ranges wait only while nothing can be written; what is further apart than this many holes is told less exactly.
constexpr std::size_t max_ranges = 64;

} // namespace

void Losses::add_range(const Range& range)
{
    const bool touches = !ranges_.empty() && range.from <= ranges_.back().to + 1 && ranges_.back().from <= range.to + 1;
    if (touches || ranges_.size() == max_ranges) {
        auto& last = ranges_.back();
        last.from = std::min(last.from, range.from);
        last.to = std::max(last.to, range.to);
        last.count += range.count;
    } else {
        ranges_.push_back(range);
    }
}

v1::Lost Losses::take()
{
    v1::Lost lost;
    if (unnumbered_ != 0) {
        lost.set_count(std::exchange(unnumbered_, 0));
        lost.set_where("agent");
        return lost;
    }
    const auto range = ranges_.front();
    ranges_.erase(ranges_.begin());
    lost.set_count(range.count);
    lost.set_where("spool");
    lost.set_from_seq(range.from);
    lost.set_to_seq(range.to);
    return lost;
}

void Losses::put_back(const v1::Lost& lost)
{
    if (lost.from_seq() == 0)
        add_unnumbered(lost.count());
    else
        add_range({lost.from_seq(), lost.to_seq(), lost.count()});
}

} // namespace bulkhead::agent
