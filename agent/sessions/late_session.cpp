// SPDX-License-Identifier: Apache-2.0
#include "agent/sessions/late_session.h"

namespace bulkhead::agent {

bool is_late(const bh_event& event)
{
    return event.type == BH_EVENT_ESTABLISHED && event.direction == BH_INBOUND && event.verdict == BH_DENIED &&
           event.guessed == 0;
}

ForbiddenSession late_session(const bh_event& event)
{
    ForbiddenSession session;
    auto& socket = session.socket.socket;
    socket.cookie = event.cookie;
    socket.local = event.local;
    socket.remote = event.remote;
    socket.local_port = event.local_port;
    socket.remote_port = event.remote_port;
    socket.protocol = event.protocol;
    session.socket.owner = event.subject;
    session.direction = policy::Direction::inbound;
    auto& verdict = session.verdict;
    verdict.remote = event.remote;
    verdict.subject = event.subject;
    verdict.port = event.local_port;
    verdict.protocol = event.protocol;
    verdict.direction = event.direction;
    verdict.verdict = event.verdict;
    verdict.reason = event.reason;
    verdict.shadow_verdict = event.shadow_verdict;
    verdict.shadow_reason = event.shadow_reason;
    verdict.generation = event.generation;
    verdict.loopback = event.loopback;
    verdict.classes = event.classes;
    session.destroyed = true;
    return session;
}

} // namespace bulkhead::agent
