// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/daemon/control_loop.h"
#include "agent/datapath/datapath.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

namespace bulkhead::agent {

// Brings word of unknown network namespaces to the control loop, from the event thread and from whoever sees interfaces
// come and go. Anybody can make namespaces by the thousand, so there are rounds, which together take a fifth of the
// loop's time at most: in each, a few hints of every user in turn. What is told again of a namespace before its turn
// replaces what was told before.
class HintRounds {
public:
    static constexpr std::size_t of_a_round = 64;
    static constexpr std::size_t of_a_user = 1024; // wait at most; the kernel tells again of who hears again

    // In the loop's thread. `everywhere`: look also for namespaces that nobody told of. True: there is more to do, also
    // without another hint.
    using Round = std::function<bool(std::span<const NamespaceHint> hints, bool everywhere)>;
    // Borrows the loop, and must live until it has ended.
    HintRounds(ControlLoop& loop, Round round) : loop_(loop), round_(std::move(round)) {}

    // Any thread.
    void add(const NamespaceHint& hint);
    // Any thread. At once, or with the next round; what began before that may not have looked there.
    void look_everywhere();
    // The loop's thread, or before it runs.
    void go_on_soon();

private:
    struct User {
        std::uint32_t uid = 0;
        std::deque<NamespaceHint> hints;
    };
    struct Work {
        std::vector<NamespaceHint> hints;
        bool everywhere = false;
    };
    void put(const NamespaceHint& hint);
    [[nodiscard]] Work take();
    void run();
    void rested(bool more);

    ControlLoop& loop_;
    Round round_;
    std::mutex mutex_; // guards the next three
    std::deque<User> users_;
    bool everywhere_ = false;
    bool planned_ = false; // a round, or the rest after it
};

} // namespace bulkhead::agent
