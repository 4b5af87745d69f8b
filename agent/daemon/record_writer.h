// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/spool.h"
#include "common/core/clock.h"

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace bulkhead::agent {

// Stamps who and when, and hands records to the spool; what the spool cannot take is counted there. Thread-safe.
class RecordWriter {
public:
    RecordWriter(Spool& spool, const Clock& clock) : spool_(spool), clock_(clock) {}

    void set_origin(std::string host, std::string agent_id, std::string boot_id);
    void write(v1::Record&& record);
    // The same a little later: with the next flush(), or when there are many. What is not flushed dies with the process.
    void collect(v1::Record&& record);
    void flush();
    // An act of this agent: "agent.start", "policy.enforce", ...
    void audit(const std::string& action, const std::string& object, const std::string& message);

private:
    void stamp(v1::Record& record);
    void complain(const Error& error);

    Spool& spool_;
    const Clock& clock_;
    std::mutex mutex_;
    std::string host_, agent_id_, boot_id_;
    std::mutex flush_mutex_; // taken before mutex_: what is collected is written in order
    std::vector<v1::Record> collected_;
    MonotonicTime silent_until_{0};
};

// A spool that may not be there yet: while it cannot be opened (a full or read-only disk), records are counted, and
// sync() tries again every few seconds. When it opens, the loss becomes a gap record. Thread-safe.
[[nodiscard]] std::unique_ptr<Spool> make_patient_spool(std::function<Result<std::unique_ptr<Spool>>()> open,
                                                        const Clock& clock);

} // namespace bulkhead::agent
