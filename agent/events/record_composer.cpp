// SPDX-License-Identifier: Apache-2.0
#include "agent/events/record_composer.h"

#include "common/net/community_id.h"

namespace bulkhead::agent {
namespace {

std::string ip_bytes(const IpAddress& address)
{
    return {address.bytes.begin() + (address.is_v4() ? 12 : 0), address.bytes.end()};
}

v1::Record::Verdict plane_verdict(std::uint8_t verdict)
{
    return verdict == BH_DENIED ? v1::Record::DENIED : v1::Record::ALLOWED;
}

std::int64_t microseconds(std::chrono::nanoseconds time)
{
    return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

// A flow is one that was allowed; a policy change may end it.
void write_verdict(const Flow& flow, v1::Record& record)
{
    record.set_verdict(flow.cut ? v1::Record::DENIED : v1::Record::ALLOWED);
    if (!flow.words || !flow.words->known)
        return;
    record.set_policy_version(flow.words->policy_version);
    record.set_shadow_verdict(plane_verdict(flow.words->shadow_verdict));
    record.set_shadow_rule(flow.words->shadow_rule);
    // An inbound connection is described when it is established, perhaps by a stricter policy than the one that let its
    // SYN pass: then nobody can say any more which rule did.
    if (flow.words->verdict == BH_DENIED && !flow.cut)
        return;
    record.set_reason(flow.words->reason);
    record.set_rule(flow.words->rule);
}

} // namespace

v1::Record RecordComposer::record(MonotonicTime at) const
{
    v1::Record record;
    record.set_time_us(microseconds(at + wall_offset_));
    record.set_host(host_.host);
    record.set_agent_id(host_.agent_id);
    record.set_boot_id(host_.boot_id);
    record.set_count(1);
    return record;
}

void RecordComposer::write_ends(const FlowTuple& tuple, policy::Direction direction, v1::Record& record) const
{
    const bool outbound = direction == policy::Direction::outbound;
    record.set_direction(outbound ? v1::Record::OUTBOUND : v1::Record::INBOUND);
    record.set_protocol(tuple.protocol);
    auto& own = outbound ? *record.mutable_src() : *record.mutable_dst();
    auto& peer = outbound ? *record.mutable_dst() : *record.mutable_src();
    auto local = tuple.local;
    if (local.is_unspecified() && host_.source_towards) // the outbound door stands before the choice of address
        local = host_.source_towards(tuple.remote).value_or(local);
    const bool own_known = !local.is_unspecified();
    if (own_known)
        own.set_ip(ip_bytes(local));
    own.set_port(tuple.local_port);
    own.set_workload(host_.host);
    own.set_identity(host_.identity);
    own.mutable_segments()->Add(host_.segments.begin(), host_.segments.end());
    own.mutable_labels()->insert(host_.labels.begin(), host_.labels.end());
    peer.set_ip(ip_bytes(tuple.remote));
    peer.set_port(tuple.remote_port);
    words_.describe_peer(tuple.remote, peer);
    if (own_known && tuple.local_port != 0)
        record.set_community_id(
            community_id_v1(tuple.protocol, local, tuple.local_port, tuple.remote, tuple.remote_port));
}

v1::Record RecordComposer::flow(const Flow& flow, v1::Record::Event event, MonotonicTime at) const
{
    auto written = record(at);
    written.set_kind(v1::Record::FLOW);
    written.set_event(event);
    written.set_flow_id(std::string(flow.id.begin(), flow.id.end()));
    write_ends(flow.tuple, flow.direction, written);
    write_verdict(flow, written);
    if (flow.process)
        *written.mutable_process() = *flow.process;
    if (event == v1::Record::OPEN)
        return written;
    if (flow.opened && at >= *flow.opened)
        written.set_duration_us(static_cast<std::uint64_t>(microseconds(at - *flow.opened)));
    if (flow.bytes_out)
        written.set_bytes_out(*flow.bytes_out);
    if (flow.bytes_in)
        written.set_bytes_in(*flow.bytes_in);
    return written;
}

v1::Record RecordComposer::violation(const FlowTuple& tuple, policy::Direction direction, const Attribution& words,
                                   const FlowId& id, const v1::Process* process, MonotonicTime at) const
{
    auto written = record(at);
    written.set_kind(v1::Record::VIOLATION);
    written.set_event(v1::Record::DENY);
    written.set_flow_id(std::string(id.begin(), id.end()));
    write_ends(tuple, direction, written);
    const bool denied = words.verdict == BH_DENIED;
    // Of an attempt that only the shadow plane refuses, its rule is the one that the reader wants to see.
    written.set_verdict(denied ? v1::Record::DENIED : v1::Record::WOULD_DENY);
    written.set_reason(denied ? words.reason : words.shadow_reason);
    written.set_rule(denied ? words.rule : words.shadow_rule);
    written.set_shadow_verdict(plane_verdict(words.shadow_verdict));
    written.set_shadow_rule(words.shadow_rule);
    written.set_policy_version(words.policy_version);
    if (process != nullptr)
        *written.mutable_process() = *process;
    return written;
}

v1::Record RecordComposer::gap(std::uint64_t count, const char* where) const
{
    auto written = record(clock_.monotonic());
    written.set_kind(v1::Record::GAP);
    written.set_policy_version(words_.policy_version());
    written.mutable_lost()->set_count(count);
    written.mutable_lost()->set_where(where);
    return written;
}

} // namespace bulkhead::agent
