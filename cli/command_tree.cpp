// SPDX-License-Identifier: Apache-2.0
#include "cli/command_tree.h"

#include "common/core/version.h"

namespace bulkhead::cli {
namespace {

void add_globals(CLI::App& app, GlobalOptions& options)
{
    app.set_version_flag("--version", "bulkheadctl " BULKHEAD_VERSION);
    app.add_option("--config", options.peers.config,
                   "Context file (default: BULKHEAD_CONFIG, ~/.config/bulkhead/config.yaml)")
        ->type_name("FILE");
    app.add_option("--controller", options.peers.controller, "Controller, instead of the context's")
        ->type_name("HOST:PORT");
    app.add_flag("--local", options.local, "Ask the agent on this host instead of the controller");
    app.add_option("--socket", options.peers.socket, "The local agent's socket")
        ->type_name("PATH")
        ->capture_default_str();
    app.add_option("-o,--output", options.format, "How to write the answer (default table)")
        ->transform(CLI::Transformer(
            std::map<std::string, Format>{{"table", Format::table}, {"json", Format::json}, {"yaml", Format::yaml}}))
        ->option_text("table|json|yaml");
    app.fallthrough(); // global options may stand behind the command, as in kubectl
    app.require_subcommand(1);
    app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid policy or configuration,\n"
               "4 cannot reach the peer, 5 refused, 6 doctor has warnings only.");
}

void fall_through(CLI::App& app)
{
    for (auto* command : app.get_subcommands({})) {
        command->fallthrough();
        fall_through(*command);
    }
}

} // namespace

CommandTree::CommandTree() : app("Bulkhead's command line: push policy, watch who talks to whom", "bulkheadctl")
{
    add_globals(app, globals);
    add_commands(app, selection);
    fall_through(app);
}

} // namespace bulkhead::cli
