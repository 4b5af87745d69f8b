// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/daemon/rounds.h"
#include "agent/datapath/datapath.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

namespace bulkhead::agent {

// Brings word of unknown network namespaces from the event thread to the control loop. Anybody can make them by the
// thousand, so there are rounds, and in each a few hints of every user in turn. What is told again of a namespace
// before its turn replaces what was told before.
class HintRounds {
public:
    static constexpr std::size_t of_a_round = 64;
    static constexpr std::size_t of_a_user = 1024; // wait at most; the kernel tells again of who hears again

    // In the loop's thread. True: there is more to do, also without another hint.
    using Round = std::function<bool(std::span<const NamespaceHint>)>;
    // Borrows the loop, and must live until it has ended.
    HintRounds(ControlLoop& loop, Round round) : round_(std::move(round)), rounds_(loop, [this] { return run(); }) {}

    // Any thread.
    void add(const NamespaceHint& hint);
    // The loop's thread, or before it runs.
    void go_on_soon() { rounds_.ask_after_a_rest(); }

private:
    struct User {
        std::uint32_t uid = 0;
        std::deque<NamespaceHint> hints;
    };
    void put(const NamespaceHint& hint);
    [[nodiscard]] std::vector<NamespaceHint> take();
    [[nodiscard]] bool run();

    Round round_;
    Rounds rounds_;
    std::mutex mutex_; // guards the next one
    std::deque<User> users_;
};

} // namespace bulkhead::agent
