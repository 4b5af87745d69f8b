// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/enrich.h"
#include "common/core/clock.h"

#include <memory>
#include <string>
#include <unordered_map>

namespace bulkhead::agent {

using SharedProcess = std::shared_ptr<const v1::Process>;

// Descriptions of subjects, shared by the flows of one process. An answer serves for a second, so a server that opens a
// thousand connections a second is read from /proc once. Those that serve no more are dropped. Bounded.
class ProcessNames {
public:
    ProcessNames(ProcessTable& processes, const Clock& clock) : processes_(processes), clock_(clock) {}

    [[nodiscard]] SharedProcess describe(const bh_subject& subject); // nullptr: the event names nobody

private:
    struct Entry {
        SharedProcess process;
        MonotonicTime at{};
    };
    ProcessTable& processes_;
    const Clock& clock_;
    std::unordered_map<std::string, Entry> entries_;
    MonotonicTime swept_{};
};

} // namespace bulkhead::agent
