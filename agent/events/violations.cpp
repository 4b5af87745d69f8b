// SPDX-License-Identifier: Apache-2.0
#include "agent/events/violations.h"

#include "agent/events/judgement.h"

#include <netinet/in.h>

#include <algorithm>

namespace bulkhead::agent {

bool Violations::is_tail(const bh_event& event, bool heard) const
{
    if (event.direction != BH_INBOUND || event.protocol != IPPROTO_TCP || event.several != BH_SEVERAL_NONE)
        return false;
    const auto tuple = ends_of(event);
    const auto* flow = flows_.tcp_between(tuple);
    return (flow != nullptr && flow->direction == policy::Direction::outbound) ||
           strays_.is_tail(tuple, clock_.monotonic(), heard);
}

FlowId Violations::id_of_kind(const bh_event& event) const
{
    return make_denial_id(records_.host().boot_id, records_.host().agent_id, event, records_.host().netns);
}

// What only the shadow plane refuses goes on as a flow, and both records name it alike. A drain brings the flow's event
// first; an outbound TCP flow that is not established yet will have the same id, made of its cookie.
FlowId Violations::id_of_first(const bh_event& event)
{
    if (event.verdict == BH_DENIED)
        return id_of_kind(event);
    const auto tuple = ends_of(event);
    const auto key =
        event.protocol == IPPROTO_UDP ? FlowKey::udp(event.direction, event.cookie, tuple) : FlowKey::tcp(event.cookie);
    const bool by_key = event.cookie != 0 || event.protocol == IPPROTO_UDP;
    if (const Flow* flow = by_key ? flows_.find(key) : flows_.tcp_between(tuple))
        return flow->id;
    return event.cookie == 0 ? id_of_kind(event)
                             : make_flow_id(records_.host().boot_id, records_.host().agent_id, key, tuple, 0);
}

void Violations::on_first(const bh_event& event, const SharedProcess& process)
{
    if (is_tail(event, process != nullptr)) {
        ++strays_seen_;
        return;
    }
    ++attempts_;
    const auto words = records_.attribute(judgement_of(event));
    records_.emit(records_.violation(event, *words, id_of_first(event), process.get(), 1));
}

void Violations::on_count(const bh_denial& denial, const SharedProcess& process)
{
    // Of the attempts on one port, those from the connection's own port are its tail, and others are none.
    const bool tail = is_tail(denial.first, process != nullptr);
    const auto count = tail ? std::min(denial.elsewhere, denial.count) : denial.count;
    strays_seen_ += denial.count - count;
    if (count == 0)
        return;
    attempts_ += count;
    auto first = denial.first;
    first.time_ns = denial.since_ns;
    if (tail) // the port that is known is that of the tail
        first.remote_port = 0;
    auto record =
        records_.violation(first, *records_.attribute(judgement_of(first)), id_of_kind(first), process.get(), count);
    record.set_duration_us((denial.last_ns - std::min(denial.since_ns, denial.last_ns)) / 1000);
    if (denial.first.several == BH_SEVERAL_PORTS) {
        record.mutable_ports()->set_lowest(denial.lowest_port);
        record.mutable_ports()->set_highest(denial.highest_port);
    }
    records_.emit(std::move(record));
}

} // namespace bulkhead::agent
