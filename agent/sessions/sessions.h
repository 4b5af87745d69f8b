// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "common/core/clock.h"
#include "common/policy/host_policy.h"

#include <functional>
#include <unordered_set>

namespace bulkhead::agent {

// Which way a live connection was opened, when flow records saw it begin; nullopt when the agent came later.
using DirectionOf = std::function<std::optional<policy::Direction>(std::uint64_t cookie)>;

// One live socket that the policy in force no longer allows.
struct ForbiddenSession {
    WalkedSocket socket;
    policy::Direction direction = policy::Direction::outbound;
    bh_judge_request verdict{};
    bool destroyed = false;
};

// Walks live sockets after every switch and judges them by the kernel's verdict function, and does what `sessions:` says
// with those that are now denied: keep leaves them, cut destroys them now, drain destroys them when the time is over if
// they are denied still. Conversations of unconnected UDP sockets are forgotten, never their sockets. Not thread-safe.
class SessionKeeper {
public:
    SessionKeeper(Datapath& datapath, const Clock& clock, DirectionOf direction_of);

    // Adopts listeners, judges every session. Returns the denied ones.
    Result<std::vector<ForbiddenSession>> after_switch(const policy::Sessions& sessions);
    // Destroys drained sessions that are due. Call at least once a second. Returns those destroyed.
    Result<std::vector<ForbiddenSession>> tick();

private:
    Result<std::vector<ForbiddenSession>> judge_all();

    Datapath& datapath_;
    const Clock& clock_;
    DirectionOf direction_of_;
    std::optional<MonotonicTime> drain_until_;
};

} // namespace bulkhead::agent
