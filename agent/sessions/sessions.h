// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/sessions/listener_index.h"
#include "common/core/clock.h"
#include "common/policy/host_policy.h"

#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <unordered_map>

namespace bulkhead::agent {

// Which way a live connection was opened, when flow records saw it begin; nullopt when the agent came later.
using DirectionOf = std::function<std::optional<policy::Direction>(const bh_walked_socket&)>;

// One live socket that the policy in force no longer allows.
struct ForbiddenSession {
    WalkedSocket socket;
    policy::Direction direction = policy::Direction::outbound;
    bh_judge_request verdict{}; // its subject: the owner outbound, the listener's owner inbound, as at the door
    bool destroyed = false;
    bool tried = false;
};

// Walks live sockets after every switch and judges them by the kernel's verdict function, and does what `sessions:`
// says with those that are now denied: keep leaves them, cut destroys them now, drain destroys them when the time is
// over if they are denied still. Conversations of unconnected UDP sockets are forgotten, never their sockets. A
// connection that passed its door just before the switch may not be in the socket table yet, so cut and drain look a
// second time, a second later. UDP sockets are searched for, one by one. Those that are not found so, or share a port
// with many, are destroyed in a walk over all of them; before Linux 6.5 they are searched for, too, for 200 ms at most
// in one look, and those that are left have their turn a second later. Not thread-safe.
//
// A session is judged while a byte of it can still reach an application: from SYN_SENT to CLOSE_WAIT and FIN_WAIT_2,
// for a half-closed connection carries data the other way. CLOSING, LAST_ACK and TIME_WAIT are left alone: both ends
// have said their last, and what is in flight was allowed when it was written.
class SessionKeeper {
public:
    // `on_cut` is told of a session just before it is destroyed, so that its end is seen as what it is; again if that
    // fails and is tried again. Of a UDP socket that the kernel does not find, and cannot walk by, it is not told.
    using OnCut = std::function<void(const ForbiddenSession&)>;
    SessionKeeper(Datapath& datapath, const Clock& clock, DirectionOf direction_of, OnCut on_cut = {});

    // Adopts listeners, judges every session. Returns the denied ones. A session that could not be destroyed is in it
    // with `destroyed` false, and tick() tries again.
    Result<std::vector<ForbiddenSession>> after_switch(const policy::Sessions& sessions);
    // Network namespaces (inode numbers) that got their door only now: what was connected to before no verdict has been
    // given on, so what is denied is destroyed whatever `sessions:` says. Looked at again a second later by tick().
    Result<std::vector<ForbiddenSession>> came(std::span<const std::uint32_t> namespaces);
    // Destroys drained sessions that are due. Call at least once a second. Returns those destroyed.
    Result<std::vector<ForbiddenSession>> tick();

private:
    [[nodiscard]] bool adopt(std::span<const WalkedSocket> sockets);
    Status look(std::vector<ForbiddenSession>& forbidden);
    Result<std::set<std::uint32_t>> look_at_newcomers(const std::set<std::uint32_t>& namespaces,
                                                      std::vector<ForbiddenSession>& forbidden);
    Result<std::vector<ForbiddenSession>> judge_sockets(std::span<const WalkedSocket> sockets);
    Status judge_other_ways(std::vector<bh_judge_request>& requests, const std::vector<const WalkedSocket*>& sockets,
                            const ListenerIndex& listeners, const std::vector<bool>& doubtful);
    Status judge_conversations();
    void tell_of(ForbiddenSession& session);
    void destroy(ForbiddenSession& session);
    void destroy(std::span<ForbiddenSession* const> sessions);
    [[nodiscard]] bool destroy_in_turn(std::unordered_map<std::uint64_t, ForbiddenSession*>& sharing,
                                       MonotonicTime enough);
    void destroy_in_walk(std::span<ForbiddenSession* const> sessions);
    void destroy_due(std::vector<ForbiddenSession>& forbidden);
    [[nodiscard]] bool is_due(std::string key);

    Datapath& datapath_;
    const Clock& clock_;
    DirectionOf direction_of_;
    OnCut on_cut_;
    policy::Sessions sessions_;
    // Until when what is denied may live, by cookie or by the key of a UDP conversation. A look at all sessions fills
    // still_denied_ and makes it the next deadlines_, so what is gone or allowed again drops out.
    std::unordered_map<std::string, MonotonicTime> deadlines_, still_denied_;
    std::set<std::string> hidden_; // ends whose denied sockets the kernel did not find, when they were last looked for
    std::optional<MonotonicTime> look_again_;
    std::map<std::uint32_t, MonotonicTime> newcomers_; // namespaces whose inbound sessions are to be judged again, when
    std::string adoption_error_;                       // that was told of
};

} // namespace bulkhead::agent
