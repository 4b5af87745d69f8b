// SPDX-License-Identifier: Apache-2.0
#include "agent/events/record_composer.h"

#include "agent/events/judgement.h"
#include "common/net/community_id.h"

#include <netinet/in.h>

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

void RecordComposer::write_own_end(const IpAddress& ip, std::uint16_t port, v1::Endpoint& end) const
{
    if (!ip.is_unspecified())
        end.set_ip(ip_bytes(ip));
    end.set_port(port);
    end.set_workload(host_.host);
    end.set_identity(host_.identity);
    end.mutable_segments()->Add(host_.segments.begin(), host_.segments.end());
    end.mutable_labels()->insert(host_.labels.begin(), host_.labels.end());
}

void RecordComposer::write_peer(const IpAddress& ip, std::uint16_t port, v1::Endpoint& end) const
{
    if (ip.is_unspecified())
        return;
    end.set_ip(ip_bytes(ip));
    end.set_port(port);
    words_.describe_peer(ip, end);
}

void RecordComposer::write_ends(const FlowTuple& tuple, policy::Direction direction, v1::Record& record) const
{
    const bool outbound = direction == policy::Direction::outbound;
    record.set_direction(outbound ? v1::Record::OUTBOUND : v1::Record::INBOUND);
    record.set_protocol(tuple.protocol);
    auto local = tuple.local;
    if (outbound && local.is_unspecified() && host_.source_towards) // the door stands before the choice of address
        local = host_.source_towards(tuple.remote).value_or(local);
    write_own_end(local, tuple.local_port, outbound ? *record.mutable_src() : *record.mutable_dst());
    write_peer(tuple.remote, tuple.remote_port, outbound ? *record.mutable_dst() : *record.mutable_src());
    if (!local.is_unspecified() && tuple.local_port != 0 && tuple.remote_port != 0)
        record.set_community_id(
            community_id_v1(tuple.protocol, local, tuple.local_port, tuple.remote, tuple.remote_port));
}

void RecordComposer::write_denied_ends(const bh_event& event, v1::Record& record) const
{
    auto tuple = tuple_of(event, host_.netns);
    if (event.several != BH_SEVERAL_NONE) {
        tuple.local_port = tuple.remote_port = 0;
        if (event.direction == BH_INBOUND)
            tuple.local = {};
    }
    if (event.several == BH_SEVERAL_PEERS)
        tuple.remote = {};
    if (event.direction != BH_FORWARDED) {
        write_ends(tuple, direction_of_event(event), record);
        return;
    }
    write_forwarded_ends(tuple, record);
}

void RecordComposer::write_forwarded_ends(const FlowTuple& tuple, v1::Record& record) const
{
    record.set_direction(v1::Record::FORWARDED);
    record.set_protocol(tuple.protocol);
    write_peer(tuple.local, tuple.local_port, *record.mutable_src());
    write_peer(tuple.remote, tuple.remote_port, *record.mutable_dst());
}

v1::Record RecordComposer::flow(const Flow& flow, v1::Record::Event event, MonotonicTime at) const
{
    auto written = record(at);
    written.set_kind(v1::Record::FLOW);
    written.set_event(event);
    written.set_flow_id(std::string(flow.id.begin(), flow.id.end()));
    if (flow.forwarded)
        write_forwarded_ends(flow.tuple, written);
    else
        write_ends(flow.tuple, flow.direction, written);
    if (flow.icmp) {
        written.mutable_icmp()->set_type(flow.icmp->type);
        written.mutable_icmp()->set_code(flow.icmp->code);
    }
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

v1::Record RecordComposer::violation(const bh_event& event, const Attribution& words, const FlowId& id,
                                     const v1::Process* process, std::uint64_t count) const
{
    auto written = record(time_of(event));
    written.set_kind(v1::Record::VIOLATION);
    written.set_event(v1::Record::DENY);
    written.set_flow_id(std::string(id.begin(), id.end()));
    written.set_count(count);
    write_denied_ends(event, written);
    if ((event.protocol == IPPROTO_ICMP || event.protocol == IPPROTO_ICMPV6) && event.several == BH_SEVERAL_NONE) {
        written.mutable_icmp()->set_type(event.icmp_type);
        written.mutable_icmp()->set_code(event.icmp_code);
    }
    const bool denied = event.verdict == BH_DENIED;
    // Of an attempt that only the shadow plane refuses, its rule is the one that the reader wants to see.
    written.set_verdict(denied ? v1::Record::DENIED : v1::Record::WOULD_DENY);
    if (event.several == BH_SEVERAL_PEERS)
        return written; // nothing more is the same for all of them
    written.set_reason(denied ? words.reason : words.shadow_reason);
    written.set_shadow_verdict(plane_verdict(words.shadow_verdict));
    written.set_policy_version(words.policy_version);
    // On several ports it may be several rules, but there is one default; of what is forwarded, one each way.
    const auto told = [&event](v1::Record::Reason reason, const std::string& rule) {
        const bool one_default = reason == v1::Record::DEFAULT && event.direction != BH_FORWARDED;
        return event.several == BH_SEVERAL_NONE || one_default ? rule : std::string();
    };
    written.set_shadow_rule(told(words.shadow_reason, words.shadow_rule));
    written.set_rule(denied ? told(words.reason, words.rule) : written.shadow_rule());
    if (process != nullptr && event.several == BH_SEVERAL_NONE)
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
