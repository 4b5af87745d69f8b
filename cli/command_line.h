// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/peers/peers.h"

#include <functional>
#include <iosfwd>
#include <memory>

namespace bulkhead::cli {

// The streams and facts of the process that a run needs; a test brings its own.
struct Surroundings {
    std::istream& in;
    std::ostream& out;
    std::ostream& err;
    bool out_is_terminal = false;
    std::function<std::unique_ptr<Peers>(PeerOptions)> connect = make_peers;
};

// Parses the command line, runs what it chose, returns the exit code. No exception leaves.
[[nodiscard]] int run_command_line(int argc, const char* const* argv, Surroundings surroundings);

} // namespace bulkhead::cli
