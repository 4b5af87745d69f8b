// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/events/record_composer.h"

#include <map>
#include <string>

namespace bulkhead::agent {

// Exchanges that passed the guard (pings, other protocols, forwarded connections) as flows: an open record with the
// first packet, a close record when the kernel's table has it no more, or nothing has been seen for its idle time.
// Bounded; what finds no room has its open record only. Borrows the composer.
class Exchanges {
public:
    Exchanges(RecordComposer& records, std::size_t limit) : records_(records), limit_(limit) {}

    void on_first(const bh_event& event, SharedProcess process);
    // What the kernel's table holds now. Call about once a second while any() holds.
    void note(const KernelExchanges& listed, MonotonicTime now);
    [[nodiscard]] bool any() const { return !open_.empty(); }

private:
    struct Open {
        Flow flow;
        MonotonicTime last{};
        MonotonicTime listed{};
    };
    RecordComposer& records_;
    std::size_t limit_;
    std::map<std::string, Open> open_; // by the bytes of the kernel's key
};

} // namespace bulkhead::agent
