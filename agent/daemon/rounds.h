// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/daemon/control_loop.h"

#include <functional>
#include <mutex>

namespace bulkhead::agent {

// Work in the control loop that others can ask for as often as they like. It is done in rounds, each followed by a rest
// of four times what it took: a fifth of the loop's time at most.
class Rounds {
public:
    // In the loop's thread. True: there is more to do, also if nobody asks.
    using Round = std::function<bool()>;
    // Borrows the loop, and must live until it has ended.
    Rounds(ControlLoop& loop, Round round) : loop_(loop), round_(std::move(round)) {}

    // Any thread. A round that begins after this call: at once, or after the rest.
    void ask();
    // The loop's thread, or before it runs. The same, and not at once.
    void ask_after_a_rest();

private:
    void run();
    void rested();

    ControlLoop& loop_;
    Round round_;
    std::mutex mutex_; // guards the next two
    bool asked_ = false;
    bool planned_ = false; // a round, or the rest after it
};

} // namespace bulkhead::agent
