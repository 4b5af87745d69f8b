// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller.pb.h"
#include "controller/ingest/record_feed.h"
#include "controller/store/record_store.h"

#include <functional>

namespace bulkhead::controller {

// Where the answer to a query goes. `send` returns false when nobody reads any more, `cancelled` is asked while
// waiting.
struct RecordSink {
    std::function<bool(const v1::RecordBatch&)> send;
    std::function<bool()> cancelled;
};

inline constexpr std::uint32_t max_last = 100'000;

// Stored records that match, oldest first, then, with follow, new ones as they are stored until the sink is cancelled.
// What is stored up to a certain arrival number is the first part and what comes after it the second: nothing twice,
// nothing left out.
Status query_records(RecordStore& store, RecordFeed& feed, const v1::RecordQuery& query, const RecordSink& sink);

} // namespace bulkhead::controller
