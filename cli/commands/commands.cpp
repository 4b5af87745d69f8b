// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

namespace bulkhead::cli {

void add_commands(CLI::App& app, Selection& selection)
{
    add_policy(app, selection);
    add_records(app, selection);
    add_workload(app, selection);
    add_segment(app, selection);
    add_agent(app, selection);
    add_status(app, selection);
    add_doctor(app, selection);
    add_maps(app, selection);
    add_completion(app, selection);
}

} // namespace bulkhead::cli
