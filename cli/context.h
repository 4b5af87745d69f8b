// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/output/listing.h"
#include "cli/peers/peers.h"

#include <iosfwd>
#include <string>

namespace bulkhead::cli {

// What every command gets: where to write, how to write it, and whom to ask. Injected, so that a command runs in a test
// without a terminal and without a network.
struct Context {
    std::istream& in;
    std::ostream& out; // data
    std::ostream& err; // everything else
    Peers& peers;
    Format format = Format::table;
    bool local = false;  // ask the agent on this host instead of the controller
    bool colour = false; // stdout is a terminal and NO_COLOR is not set
};

// "bulkheadctl: error: ..." and the mend on stderr; returns the exit code.
int report(Context& context, const Error& error);

} // namespace bulkhead::cli
