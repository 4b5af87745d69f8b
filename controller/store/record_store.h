// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "record.pb.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace bulkhead::controller {

// A record and its place in the order in which the controller stored records. Arrival numbers rise with every commit
// and are never used twice.
struct StoredRecord {
    std::uint64_t arrival = 0;
    v1::Record record;
};

struct AgentBatch {
    std::string agent_id;
    std::vector<v1::Record> records; // seq rising
};
struct BatchOutcome {
    std::uint64_t last_seq = 0;   // highest stored of this agent
    std::uint64_t missing = 0;    // numbers that this batch skipped
    std::uint64_t duplicates = 0; // were stored already and are left as they were
};

// A page of records in order of (time, arrival). `after` continues behind the last record of the page before.
struct RecordScan {
    std::int64_t since_us = 0; // 0: no bound
    std::int64_t until_us = 0; // exclusive; 0: no bound
    std::vector<int> kinds;    // v1::Record::Kind; empty: all
    std::vector<int> verdicts; // v1::Record::Verdict; empty: all. Gap records pass always: they stand for any verdict.
    std::uint64_t up_to_arrival = 0; // inclusive
    bool newest_first = false;
    struct Place {
        std::int64_t time_us = 0;
        std::uint64_t arrival = 0; // 0: from the beginning
    } after;
    std::uint32_t limit = 1000;
};

// Records, each (agent, seq) exactly once. Thread-safe; readers do not wait for the writer.
class RecordStore {
public:
    virtual ~RecordStore() = default;

    // All batches in one transaction, on the disk when this returns. On an Error none of them is stored.
    virtual Result<std::vector<BatchOutcome>> append(std::span<const AgentBatch> batches) = 0;
    virtual Result<std::uint64_t> last_seq(const std::string& agent_id) = 0;
    virtual Result<std::uint64_t> newest_arrival() = 0; // 0: none yet
    virtual Result<std::vector<StoredRecord>> scan(const RecordScan& scan) = 0;
    virtual Result<std::vector<StoredRecord>> after(std::uint64_t arrival, std::uint32_t limit) = 0; // in arrival order
};

} // namespace bulkhead::controller
