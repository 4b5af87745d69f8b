// SPDX-License-Identifier: Apache-2.0
#include "agent/local/record_query.h"

#include "common/record/filter.h"

#include <deque>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t records_per_read = 1000;
constexpr std::size_t records_per_batch = 200;
constexpr std::uint32_t max_last = 100'000; // held in memory
constexpr auto follow_wait = 200ms;

bool send_all(std::deque<v1::Record>& records, const std::function<bool(const v1::RecordBatch&)>& send)
{
    while (!records.empty()) {
        v1::RecordBatch batch;
        for (std::size_t i = 0; i < records_per_batch && !records.empty(); ++i) {
            *batch.add_records() = std::move(records.front());
            records.pop_front();
        }
        if (!send(batch))
            return false;
    }
    return true;
}

} // namespace

Status query_records(const v1::RecordQuery& query, Spool& spool,
                     const std::function<bool(const v1::RecordBatch&)>& send, const std::function<bool()>& stop)
{
    BULKHEAD_TRY(const auto matcher, record::make_matcher(query));
    if (query.last() > max_last)
        return fail(ErrorKind::usage, "at most the last {} records can be asked for", max_last);
    const std::uint64_t history_ends = spool.next_seq(); // what comes later is for `follow`
    std::uint64_t seen = spool.first_seq() - 1;
    std::deque<v1::Record> matching;
    const auto take = [&](std::vector<v1::Record>& records) {
        for (auto& record : records) {
            seen = record.seq();
            if (matcher->matches(record))
                matching.push_back(std::move(record));
        }
    };
    while (seen + 1 < history_ends && !stop()) {
        BULKHEAD_TRY(auto records, spool.read(seen, records_per_read, 0ms));
        if (records.empty())
            break;
        take(records);
        while (query.last() != 0 && matching.size() > query.last())
            matching.pop_front();
        if (query.last() == 0 && !send_all(matching, send))
            return {};
    }
    if (!send_all(matching, send))
        return {};
    while (query.follow() && !stop()) {
        BULKHEAD_TRY(auto records, spool.read(seen, records_per_read, follow_wait));
        take(records);
        if (!send_all(matching, send))
            return {};
    }
    return {};
}

} // namespace bulkhead::agent
