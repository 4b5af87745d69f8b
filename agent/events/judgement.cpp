// SPDX-License-Identifier: Apache-2.0
#include "agent/events/judgement.h"

#include "agent/events/flow_key.h"

#include <netinet/in.h>

namespace bulkhead::agent {
namespace {

// As bpf/verdict.h sees it; what stands for a port with it is in the judgement's port.
policy::Protocol protocol_of(std::uint8_t number)
{
    switch (number) {
    case IPPROTO_TCP: return policy::Protocol::tcp;
    case IPPROTO_UDP: return policy::Protocol::udp;
    case IPPROTO_ICMP: return policy::Protocol::icmp;
    case IPPROTO_ICMPV6: return policy::Protocol::icmpv6;
    default: return policy::Protocol::other;
    }
}

// See bh_loopback.
IpAddress asked_about(const bh_address& remote, std::uint8_t loopback)
{
    const auto address = to_ip(remote);
    if (loopback != BH_LOOPBACK_OWN)
        return address;
    if (address.is_v4())
        return IpAddress::from_v4(INADDR_LOOPBACK);
    IpAddress one;
    one.bytes.back() = 1;
    return one;
}

} // namespace

MonotonicTime time_of(const bh_event& event)
{
    return MonotonicTime(static_cast<std::int64_t>(event.time_ns));
}

policy::Direction direction_of_event(const bh_event& event)
{
    return event.direction == BH_INBOUND ? policy::Direction::inbound : policy::Direction::outbound;
}

Judgement judgement_of(const bh_event& event)
{
    Judgement judgement;
    judgement.generation = event.generation;
    judgement.direction = direction_of_event(event);
    judgement.protocol = protocol_of(event.protocol);
    judgement.peer = asked_about(event.remote, event.loopback);
    if (event.direction == BH_FORWARDED)
        judgement.source = to_ip(event.local);
    if (policy::has_ports(judgement.protocol))
        judgement.port = event.direction == BH_INBOUND ? event.local_port : event.remote_port;
    else
        judgement.port = judgement.protocol == policy::Protocol::other ? event.protocol : event.icmp_type;
    judgement.classes = event.classes;
    judgement.verdict = event.verdict;
    judgement.reason = event.reason;
    judgement.shadow_verdict = event.shadow_verdict;
    judgement.shadow_reason = event.shadow_reason;
    return judgement;
}

Judgement judgement_of(const bh_judge_request& request)
{
    Judgement judgement;
    judgement.generation = request.generation;
    judgement.direction = static_cast<policy::Direction>(request.direction);
    judgement.protocol = protocol_of(request.protocol);
    judgement.peer = asked_about(request.remote, request.loopback);
    judgement.port = request.port;
    judgement.classes = request.classes;
    judgement.verdict = request.verdict;
    judgement.reason = request.reason;
    judgement.shadow_verdict = request.shadow_verdict;
    judgement.shadow_reason = request.shadow_reason;
    return judgement;
}

} // namespace bulkhead::agent
