// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/host/host_checks.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {
namespace {

struct DoctorOptions {};

std::string_view word(Finding::Grade grade)
{
    switch (grade) {
    case Finding::Grade::good: return "ok";
    case Finding::Grade::warning: return "warning";
    case Finding::Grade::bad: return "MISSING";
    }
    return "";
}

// Without a context file this host only runs an agent: nothing to check.
void check_controller(Context& context, std::vector<Finding>& findings)
{
    if (!context.peers.knows_controller())
        return;
    auto admin = context.peers.admin();
    if (!admin) {
        findings.push_back({Finding::Grade::bad, "controller", admin.error().message, admin.error().mend});
        return;
    }
    v1::ControllerStatus status;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto result = (*admin)->GetStatus(&call, {}, &status); !result.ok()) {
        auto error = explain(result, context.peers.admin_name());
        findings.push_back({Finding::Grade::bad, "controller", error.message, error.mend});
        return;
    }
    findings.push_back({Finding::Grade::good, "controller", context.peers.admin_name() + " answers", ""});
}

int run_doctor(const DoctorOptions&, Context& context)
{
    auto findings = check_host({});
    check_controller(context, findings);
    Listing listing;
    listing.columns = {"CHECK", "RESULT", "WHAT", "MEND"};
    bool bad = false;
    for (const auto& finding : findings) {
        bad = bad || finding.grade == Finding::Grade::bad;
        listing.rows.push_back({finding.check, std::string(word(finding.grade)), finding.what, finding.mend});
        listing.data.push_back({{"check", finding.check},
                                {"result", word(finding.grade)},
                                {"what", finding.what},
                                {"mend", finding.mend}});
    }
    print(listing, context.format, context.out);
    return bad ? 1 : 0;
}

} // namespace

void add_doctor(CLI::App& app, Selection& selection)
{
    on_selected(
        app.add_subcommand("doctor", "Is this host ready: kernel, cgroup v2, BTF, privileges, clock, controller"),
        selection, std::make_shared<DoctorOptions>(), run_doctor);
}

} // namespace bulkhead::cli
