// SPDX-License-Identifier: Apache-2.0
#include "agent/local/record_query.h"

#include "common/record/filter.h"

#include <deque>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t records_per_read = 1000;
constexpr std::size_t records_per_batch = 200;
constexpr std::uint32_t max_last = 100'000; // whose numbers are held in memory
constexpr auto follow_wait = 200ms;

using Taker = std::function<bool(const v1::Record& matching)>; // false: enough

// Hands on what matches of the records with `after` < seq < `end`, and returns the number of the last one that was read.
Result<std::uint64_t> go_through(Spool& spool, const record::RecordMatcher& matcher, std::uint64_t after, std::uint64_t end,
                                 const Taker& take, const std::function<bool()>& stop)
{
    while (after + 1 < end && !stop()) {
        BULKHEAD_TRY(const auto records, spool.read(after, records_per_read, 0ms));
        if (records.empty())
            break;
        for (const auto& record : records) {
            if (record.seq() >= end)
                return after;
            after = record.seq();
            if (matcher.matches(record) && !take(record))
                return after;
        }
    }
    return after;
}

// The number before that of the first of the newest `count` that match. Their numbers are remembered, and what they say is
// read again: an agent is not to hold what is on the disk.
Result<std::uint64_t> before_the_newest(std::uint32_t count, Spool& spool, const record::RecordMatcher& matcher,
                                        std::uint64_t end, const std::function<bool()>& stop)
{
    std::deque<std::uint64_t> newest;
    const auto remember = [&](const v1::Record& record) {
        newest.push_back(record.seq());
        if (newest.size() > count)
            newest.pop_front();
        return true;
    };
    BULKHEAD_CHECK(go_through(spool, matcher, spool.first_seq() - 1, end, remember, stop));
    return newest.empty() ? end - 1 : newest.front() - 1;
}

// Gathers records into batches.
class Batches {
public:
    explicit Batches(const std::function<bool(const v1::RecordBatch&)>& send) : send_(send) {}

    // As flush().
    [[nodiscard]] bool add(const v1::Record& record)
    {
        *batch_.add_records() = record;
        return batch_.records_size() < static_cast<int>(records_per_batch) || flush();
    }

    // False: nobody reads any more.
    [[nodiscard]] bool flush()
    {
        wanted_ = wanted_ && (batch_.records().empty() || send_(batch_));
        batch_.clear_records();
        return wanted_;
    }

private:
    const std::function<bool(const v1::RecordBatch&)>& send_;
    v1::RecordBatch batch_;
    bool wanted_ = true;
};

} // namespace

Status query_records(const v1::RecordQuery& query, Spool& spool,
                     const std::function<bool(const v1::RecordBatch&)>& send, const std::function<bool()>& stop)
{
    BULKHEAD_TRY(const auto matcher, record::make_matcher(query));
    if (query.last() > max_last)
        return fail(ErrorKind::usage, "at most the last {} records can be asked for", max_last);
    const std::uint64_t history_ends = spool.next_seq(); // what comes later is for `follow`
    std::uint64_t seen = spool.first_seq() - 1;
    if (query.last() != 0) {
        BULKHEAD_TRY(seen, before_the_newest(query.last(), spool, *matcher, history_ends, stop));
    }
    Batches batches(send);
    const auto add = [&](const v1::Record& record) { return batches.add(record); };
    BULKHEAD_TRY(seen, go_through(spool, *matcher, seen, history_ends, add, stop));
    if (!batches.flush())
        return {};
    while (query.follow() && !stop()) {
        BULKHEAD_TRY(const auto records, spool.read(seen, records_per_read, follow_wait));
        for (const auto& record : records) {
            seen = record.seq();
            if (matcher->matches(record) && !batches.add(record))
                return {};
        }
        if (!batches.flush())
            return {};
    }
    return {};
}

} // namespace bulkhead::agent
