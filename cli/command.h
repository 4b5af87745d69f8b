// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/context.h"

#include <CLI/CLI.hpp>

#include <functional>
#include <memory>

namespace bulkhead::cli {

// What the command line chose: set by the callback of the subcommand that was parsed, run once parsing is over.
using Action = std::function<int(Context&)>;
struct Selection {
    Action action;
};

// Binds a subcommand to its run function; `options` lives as long as the command does.
template <typename Options>
void on_selected(CLI::App* command, Selection& selection, std::shared_ptr<Options> options,
                 int (*run)(const Options&, Context&))
{
    command->callback([&selection, options, run] {
        selection.action = [options, run](Context& context) { return run(*options, context); };
    });
}

// One per file in commands/.
void add_policy(CLI::App& app, Selection& selection);
void add_records(CLI::App& app, Selection& selection); // flows, violations
void add_workload(CLI::App& app, Selection& selection);
void add_segment(CLI::App& app, Selection& selection);
void add_agent(CLI::App& app, Selection& selection);
void add_status(CLI::App& app, Selection& selection);
void add_doctor(CLI::App& app, Selection& selection);
void add_maps(CLI::App& app, Selection& selection);
void add_support_bundle(CLI::App& agent, Selection& selection); // below `agent`
void add_completion(CLI::App& app, Selection& selection);

// The whole command tree, without global options.
void add_commands(CLI::App& app, Selection& selection);

} // namespace bulkhead::cli
