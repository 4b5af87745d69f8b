// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_table.h"
#include "agent/events/record_composer.h"
#include "agent/events/stray_segments.h"

namespace bulkhead::agent {

// Refused attempts become violation records: the first of a kind at once, the others by their number. What is the tail
// of an outbound connection is counted and not reported (docs/life-of-a-connection.md). Borrows everything.
class Violations {
public:
    Violations(const Clock& clock, RecordComposer& records, FlowTable& flows, const StraySegments& strays)
        : clock_(clock), records_(records), flows_(flows), strays_(strays)
    {}

    // `process`: of the host's end; nullptr: nobody's, as far as is known.
    void on_first(const bh_event& event, const SharedProcess& process);
    void on_count(const bh_denial& denial, const SharedProcess& process);

    // Every attempt that the kernel counted as denied or would-be-denied is in one of the two.
    [[nodiscard]] std::uint64_t attempts() const { return attempts_; }
    [[nodiscard]] std::uint64_t strays() const { return strays_seen_; }

private:
    [[nodiscard]] bool is_tail(const bh_event& event, bool heard) const;
    [[nodiscard]] FlowId id_of_first(const bh_event& event);
    [[nodiscard]] FlowId id_of_kind(const bh_event& event) const;
    [[nodiscard]] FlowTuple ends_of(const bh_event& event) const { return tuple_of(event, records_.host().netns); }

    const Clock& clock_;
    RecordComposer& records_;
    FlowTable& flows_;
    const StraySegments& strays_;
    std::uint64_t attempts_ = 0, strays_seen_ = 0;
};

} // namespace bulkhead::agent
