// SPDX-License-Identifier: Apache-2.0
#include "agent/events/judgement.h"

#include "agent/events/flow_key.h"

#include <netinet/in.h>

namespace bulkhead::agent {

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
    judgement.protocol = event.protocol == IPPROTO_UDP ? policy::Protocol::udp : policy::Protocol::tcp;
    judgement.peer = to_ip(event.remote);
    judgement.port = event.direction == BH_INBOUND ? event.local_port : event.remote_port;
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
    judgement.protocol = request.protocol == IPPROTO_UDP ? policy::Protocol::udp : policy::Protocol::tcp;
    judgement.peer = to_ip(request.remote);
    judgement.port = request.port;
    judgement.classes = request.classes;
    judgement.verdict = request.verdict;
    judgement.reason = request.reason;
    judgement.shadow_verdict = request.shadow_verdict;
    judgement.shadow_reason = request.shadow_reason;
    return judgement;
}

} // namespace bulkhead::agent
