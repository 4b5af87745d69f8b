// SPDX-License-Identifier: Apache-2.0
#include "controller/api/record_query.h"

#include "common/record/filter.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

constexpr std::uint32_t page_records = 1000;
constexpr std::size_t batch_bytes = 256 * 1024;
constexpr std::chrono::milliseconds cancel_interval{200};

class Answer {
public:
    Answer(const record::RecordMatcher& matcher, const RecordSink& sink) : matcher_(matcher), sink_(sink) {}

    [[nodiscard]] bool matches(const v1::Record& record) const { return matcher_.matches(record); }

    // False: nobody reads any more.
    bool add(v1::Record&& record)
    {
        bytes_ += record.ByteSizeLong();
        *batch_.add_records() = std::move(record);
        return bytes_ < batch_bytes || flush();
    }
    bool flush()
    {
        if (batch_.records().empty())
            return true;
        const bool sent = sink_.send(batch_);
        batch_.Clear();
        bytes_ = 0;
        return sent;
    }

private:
    const record::RecordMatcher& matcher_;
    const RecordSink& sink_;
    v1::RecordBatch batch_;
    std::size_t bytes_ = 0;
};

// What the store can leave out by itself; the matcher decides in the end.
RecordScan scan_for(const v1::RecordQuery& query, std::uint64_t up_to)
{
    RecordScan scan;
    scan.since_us = query.since_us();
    scan.until_us = query.until_us();
    scan.kinds.assign(query.filter().kinds().begin(), query.filter().kinds().end());
    scan.verdicts.assign(query.filter().verdicts().begin(), query.filter().verdicts().end());
    scan.up_to_arrival = up_to;
    scan.limit = page_records;
    return scan;
}

void go_on_behind(RecordScan& scan, const StoredRecord& last)
{
    scan.after = {last.record.time_us(), last.arrival};
}

Result<bool> send_all(RecordStore& store, RecordScan scan, Answer& answer, const RecordSink& sink)
{
    while (!sink.cancelled()) {
        BULKHEAD_TRY(auto page, store.scan(scan));
        for (auto& stored : page) {
            go_on_behind(scan, stored);
            if (answer.matches(stored.record) && !answer.add(std::move(stored.record)))
                return false;
        }
        if (page.size() < scan.limit)
            return answer.flush();
    }
    return false;
}

Result<bool> send_last(RecordStore& store, RecordScan scan, std::size_t count, Answer& answer, const RecordSink& sink)
{
    scan.newest_first = true;
    std::vector<v1::Record> newest;
    while (newest.size() < count) {
        if (sink.cancelled())
            return false;
        BULKHEAD_TRY(auto page, store.scan(scan));
        for (auto& stored : page) {
            go_on_behind(scan, stored);
            if (newest.size() < count && answer.matches(stored.record))
                newest.push_back(std::move(stored.record));
        }
        if (page.size() < scan.limit)
            break;
    }
    for (auto record = newest.rbegin(); record != newest.rend(); ++record)
        if (!answer.add(std::move(*record)))
            return false;
    return answer.flush();
}

Status follow(RecordStore& store, RecordFeed& feed, std::uint64_t arrival, Answer& answer, const RecordSink& sink)
{
    while (!sink.cancelled()) {
        const auto seen = feed.count();
        BULKHEAD_TRY(auto page, store.after(arrival, page_records));
        for (auto& stored : page) {
            arrival = stored.arrival;
            if (answer.matches(stored.record) && !answer.add(std::move(stored.record)))
                return {};
        }
        if (page.size() == page_records)
            continue;
        if (!answer.flush())
            return {};
        // Counted before reading: what was stored meanwhile ends the wait at once.
        feed.wait(seen, cancel_interval);
    }
    return {};
}

} // namespace

Status query_records(RecordStore& store, RecordFeed& feed, const v1::RecordQuery& query, const RecordSink& sink)
{
    if (query.last() > max_last)
        return fail(ErrorKind::usage, "the newest {} records are the most that can be asked for by number", max_last);
    BULKHEAD_TRY(const auto matcher, record::make_matcher(query));
    Answer answer(*matcher, sink);
    BULKHEAD_TRY(const auto seam, store.newest_arrival());
    const auto scan = scan_for(query, seam);
    const auto sent =
        query.last() == 0 ? send_all(store, scan, answer, sink) : send_last(store, scan, query.last(), answer, sink);
    if (!sent)
        return tl::unexpected(sent.error());
    if (!*sent || !query.follow())
        return {};
    return follow(store, feed, seam, answer, sink);
}

} // namespace bulkhead::controller
