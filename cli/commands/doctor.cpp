// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/host/examination.h"

#include <algorithm>

namespace bulkhead::cli {
namespace {

struct DoctorOptions {
    std::string agent_config;
};

constexpr int exit_bad = 1, exit_warnings = 6;

int run_doctor(const DoctorOptions& options, Context& context)
{
    const HostPaths paths;
    const auto place = find_agent(paths, options.agent_config);
    context.peers.agent_listens_at(place.socket);
    const auto findings = examine(context, paths, place);
    print(findings_listing(findings), context.format, context.out);
    const auto any = [&](Finding::Grade grade) {
        return std::any_of(findings.begin(), findings.end(), [&](const auto& one) { return one.grade == grade; });
    };
    if (any(Finding::Grade::bad))
        return exit_bad;
    return any(Finding::Grade::warning) ? exit_warnings : 0;
}

} // namespace

void add_doctor(CLI::App& app, Selection& selection)
{
    auto options = std::make_shared<DoctorOptions>();
    auto* doctor = app.add_subcommand(
        "doctor",
        "What is wrong on this host, and how to mend it: kernel, cgroup v2, BTF, other tools that decide about "
        "traffic, clock, disk, agent, certificate, controller");
    doctor
        ->add_option("--agent-config", options->agent_config,
                     "The agent's configuration (default: that of its unit, /etc/bulkhead/agent.yaml)")
        ->type_name("FILE");
    doctor->footer("Changes nothing. Works without the agent, and without root: what it cannot see then it says.\n"
                   "Exit codes: 0 all is well, 6 there are warnings, 1 something is missing or broken.");
    on_selected(doctor, selection, options, run_doctor);
}

} // namespace bulkhead::cli
