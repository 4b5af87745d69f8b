// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"
#include "cli/peers/peers.h"

namespace bulkhead::cli {

struct GlobalOptions {
    PeerOptions peers;
    Format format = Format::table;
    bool local = false;
};

// Everything that can be typed: run by run_command_line(), described by man_page() and the completion.
class CommandTree {
public:
    CommandTree();
    CommandTree(const CommandTree&) = delete;
    CommandTree& operator=(const CommandTree&) = delete;

    CLI::App app;
    GlobalOptions globals;
    Selection selection;
};

} // namespace bulkhead::cli
