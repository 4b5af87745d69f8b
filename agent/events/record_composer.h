// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_table.h"
#include "agent/events/policy_words.h"

namespace bulkhead::agent {

// Writes what is known of a flow, an attempt or a loss into a record: every field that does not depend on how it was
// learned.
class RecordComposer {
public:
    RecordComposer(const Clock& clock, FlowAssembler::Emit emit) : clock_(clock), emit_(std::move(emit))
    {
        set_wall_offset();
    }

    void set_host(HostIdentity host) { host_ = std::move(host); }
    [[nodiscard]] const HostIdentity& host() const { return host_; }
    [[nodiscard]] SharedAttribution attribute(const Judgement& judgement)
    {
        return words_.attribute(judgement, clock_.wall());
    }
    [[nodiscard]] PolicyWords& words() { return words_; }
    // Events carry CLOCK_MONOTONIC; what the wall clock is ahead of it changes when the time is set, and in suspend.
    void set_wall_offset() { wall_offset_ = clock_.wall().time_since_epoch() - clock_.monotonic(); }

    [[nodiscard]] v1::Record flow(const Flow& flow, v1::Record::Event event, MonotonicTime at) const;
    // The ends are those of the attempt, as far as all that `count` stands for have the same; `words` is what the door
    // said.
    [[nodiscard]] v1::Record violation(const bh_event& event, const Attribution& words, const FlowId& id,
                                       const v1::Process* process, std::uint64_t count) const;
    [[nodiscard]] v1::Record gap(std::uint64_t count, const char* where) const;
    void emit(v1::Record&& record) { emit_(std::move(record)); }

private:
    [[nodiscard]] v1::Record record(MonotonicTime at) const;
    void write_ends(const FlowTuple& tuple, policy::Direction direction, v1::Record& record) const;
    void write_forwarded_ends(const FlowTuple& tuple, v1::Record& record) const;
    void write_own_end(const IpAddress& ip, std::uint16_t port, v1::Endpoint& end) const;
    void write_peer(const IpAddress& ip, std::uint16_t port, v1::Endpoint& end) const;
    void write_denied_ends(const bh_event& event, v1::Record& record) const;

    const Clock& clock_;
    FlowAssembler::Emit emit_;
    HostIdentity host_;
    PolicyWords words_;
    std::chrono::nanoseconds wall_offset_{};
};

} // namespace bulkhead::agent
