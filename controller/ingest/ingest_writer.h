// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller/ingest/record_feed.h"
#include "controller/store/record_store.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace bulkhead::controller {

// Bounds on one batch, whatever an agent says.
inline constexpr int max_batch_records = 20'000;
inline constexpr std::size_t max_record_bytes = 64 * 1024;

// Makes a batch the authenticated agent's: host and agent id are written over, an audit record's actor is the host, and
// a record that is too large to keep becomes a gap record with the same number. Invalid when seq does not rise or is 0.
Status claim_batch(AgentBatch& batch, const std::string& host);

// Stores batches of all agents on one thread, those that wait together in one transaction. Thread-safe.
class IngestWriter {
public:
    // Called on the writer's thread with the number to acknowledge, or with the error; nothing of the batch is stored
    // then.
    using Done = std::function<void(Result<std::uint64_t>)>;

    IngestWriter(RecordStore& store, RecordFeed& feed) : store_(store), feed_(feed) {}
    ~IngestWriter();

    void start();
    void stop(); // what was submitted is stored first
    void submit(AgentBatch batch, Done done);

private:
    struct Job {
        AgentBatch batch;
        Done done;
    };
    void run();
    void store(std::deque<Job>& jobs);

    RecordStore& store_;
    RecordFeed& feed_;
    std::thread thread_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job> jobs_;
    bool stopping_ = false;
};

} // namespace bulkhead::controller
