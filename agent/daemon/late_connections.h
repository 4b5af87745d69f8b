// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/daemon/rounds.h"
#include "common/abi/bulkhead.h"
#include "common/core/result.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <set>

namespace bulkhead::agent {

// Brings connections that were completed after they were forbidden from the event thread to the control loop, which
// cuts them. In a namespace without an inbound door anybody can make thousands a second, and each is looked for in all
// namespaces: so there are rounds, and what comes faster than that is left to a walk over all sockets, which is one.
class LateConnections {
public:
    static constexpr std::size_t of_a_round = 32;
    static constexpr std::size_t at_once = 256;          // wait at most for a round
    static constexpr std::size_t missed_at_most = 65536; // those who make more do not get others' cut

    // In the loop's thread. False: it was not found.
    using Cut = std::function<Result<bool>(const bh_event&)>;
    // Borrows the loop, and must live until it has ended.
    LateConnections(ControlLoop& loop, Cut cut) : cut_(std::move(cut)), rounds_(loop, [this] { return run(); }) {}

    // Any thread.
    void add(const bh_event& event);
    // Cookies of those that a walk has to find.
    [[nodiscard]] std::set<std::uint64_t> take_missed();
    void missed_again(const std::set<std::uint64_t>& cookies); // there was no walk

private:
    [[nodiscard]] bool run();
    void miss(std::uint64_t cookie); // with the lock

    Cut cut_;
    Rounds rounds_;
    std::mutex mutex_; // guards the next two
    std::deque<bh_event> waiting_;
    std::set<std::uint64_t> missed_;
};

} // namespace bulkhead::agent
