// SPDX-License-Identifier: Apache-2.0
#include "cli/host/examination.h"

#include "cli/host/agent_checks.h"
#include "cli/host/conflicts.h"
#include "cli/host/host_checks.h"
#include "cli/host/mends.h"
#include "cli/peers/context_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <unistd.h>

namespace bulkhead::cli {
namespace {

using Grade = Finding::Grade;

void append(Findings& findings, Findings more)
{
    findings.insert(findings.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

void judge_status(const v1::LocalStatus& status, Findings& findings)
{
    if (status.enforcing())
        findings.push_back(
            {Grade::good, "agent",
             fmt::format("version {} enforces policy version {}", status.version(), status.policy_version()), ""});
    else
        findings.push_back(
            {Grade::warning, "agent",
             fmt::format("version {} runs and enforces nothing: there is no policy yet", status.version()),
             mend_of_no_policy(status.source())});
    if (!status.refusal().empty())
        findings.push_back(
            {Grade::warning, "policy", "the newest was refused: " + status.refusal(),
             "mend the policy ('bulkheadctl policy validate FILE' reads it); the one before it stays in force"});
    for (const auto& warning : status.warnings())
        findings.push_back({Grade::warning, "agent", warning, mend_of_warning(warning)});
    for (const auto& one : status.tampering())
        findings.push_back(
            {Grade::warning, "tampering", fmt::format("{}: {}", one.what(), one.outcome()),
             "find out which program of root did it: journalctl -u bulkheadd, and the host's own logs of that time"});
    if (status.source().rfind("controller ", 0) != 0)
        return;
    if (status.connected())
        findings.push_back({Grade::good, "session", "connected to the " + status.source(), ""});
    else
        findings.push_back({Grade::bad, "session", "not connected to the " + status.source(),
                            "see the findings on the controller and the certificate; enforcement goes on meanwhile"});
}

void judge_silence(const Error& error, const HostPaths& paths, const AgentPlace& place, Findings& findings)
{
    std::error_code ignored; // what cannot be seen is not there
    const bool was_here = place.config_is_there || !place.options.empty() || !place.environment_trouble.empty() ||
                          std::filesystem::exists(paths.root + place.state_dir, ignored);
    const bool pinned = anything_pinned(paths, place);
    if (!was_here && !pinned) {
        findings.push_back({Grade::unseen, "agent", "none is configured on this host, and none answers", ""});
        return;
    }
    if (::geteuid() != 0) {
        findings.push_back({Grade::unseen, "agent", "only root may ask it", "run as root"});
        return;
    }
    findings.push_back({Grade::bad, "agent",
                        error.message + (pinned ? "; what it pinned goes on enforcing its last policy"
                                                : "; nothing of it is pinned: this host is not protected"),
                        "systemctl status bulkheadd; journalctl -u bulkheadd"});
}

// "controller HOST:PORT", "folder DIR" or "none"
void take_source(std::string_view source, AgentPlace& place)
{
    if (source.empty())
        return;
    const auto what = source.substr(0, source.find(' '));
    const auto name = std::string(source.substr(std::min(what.size() + 1, source.size())));
    place.controller = what == "controller" ? name : "";
    place.policy_dir = what == "folder" ? name : "";
}

// Asks the agent; what it says of its places counts more than a file that it may not have read.
void check_agent(Context& context, const HostPaths& paths, AgentPlace& place, Findings& findings)
{
    auto agent = context.peers.agent();
    if (!agent)
        return judge_silence(agent.error(), paths, place, findings);
    v1::LocalStatus status;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto result = (*agent)->GetStatus(&call, {}, &status); !result.ok())
        return judge_silence(explain(result, context.peers.agent_name()), paths, place, findings);
    judge_status(status, findings);
    if (!status.state_dir().empty())
        place.state_dir = status.state_dir();
    take_source(status.source(), place);
}

// Without a context file this host only runs an agent: nothing to check.
void check_controller(Context& context, Findings& findings)
{
    if (!context.peers.knows_controller())
        return;
    if (auto key =
            check_key_file(default_context_path(), "who has read it can act as its admin until its certificate ends"))
        findings.push_back(std::move(*key));
    auto admin = context.peers.admin();
    if (!admin) {
        findings.push_back({Grade::bad, "controller", admin.error().message, admin.error().mend});
        return;
    }
    v1::ControllerStatus status;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto result = (*admin)->GetStatus(&call, {}, &status); !result.ok()) {
        auto error = explain(result, context.peers.admin_name());
        findings.push_back({Grade::bad, "controller", error.message, error.mend});
        return;
    }
    findings.push_back({Grade::good, "controller", context.peers.admin_name() + " answers", ""});
}

std::string_view word(Finding::Grade grade)
{
    switch (grade) {
    case Grade::good: return "ok";
    case Grade::warning: return "warning";
    case Grade::bad: return "MISSING";
    case Grade::unseen: return "not seen";
    }
    return "";
}

} // namespace

Findings examine(Context& context, const HostPaths& paths, AgentPlace place)
{
    auto findings = check_host(paths);
    append(findings, check_conflicts(paths));
    check_agent(context, paths, place, findings);
    append(findings, check_agent_files(paths, place, std::chrono::system_clock::now()));
    if (!place.controller.empty())
        append(findings, check_reachable(place.controller));
    check_controller(context, findings);
    return findings;
}

Listing findings_listing(const Findings& findings)
{
    Listing listing;
    listing.columns = {"CHECK", "RESULT", "WHAT", "MEND"};
    for (const auto& finding : findings) {
        listing.rows.push_back({finding.check, std::string(word(finding.grade)), finding.what, finding.mend});
        listing.data.push_back({{"check", finding.check},
                                {"result", word(finding.grade)},
                                {"what", finding.what},
                                {"mend", finding.mend}});
    }
    return listing;
}

} // namespace bulkhead::cli
