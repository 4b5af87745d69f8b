// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/quarantine.h"

#include "cli/commands/duration_option.h"
#include "cli/commands/local_status.h"
#include "cli/commands/workload_show.h"
#include "common/core/clock.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds answer_wait = 5s;
constexpr DurationBounds for_bounds{10s, 24h * 365};

struct QuarantineOptions {
    std::string name;
    std::string reason;
    std::chrono::milliseconds time{0};
    bool on = true;
    bool force = false;
};

int set_here(const QuarantineOptions& options, Context& context)
{
    if (!options.name.empty())
        return report(context, Error{ErrorKind::usage, "with --local it is this host, whatever its name",
                                     "leave out the name, or --local"});
    auto agent = context.peers.agent();
    if (!agent)
        return report(context, agent.error());
    v1::LocalQuarantine wish;
    wish.set_on(options.on);
    wish.set_reason(options.reason);
    wish.set_for_ms(static_cast<std::uint64_t>(options.time.count()));
    wish.set_force(options.force);
    v1::LocalStatus now;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto status = (*agent)->SetQuarantine(&call, wish, &now); !status.ok())
        return report(context, explain(status, context.peers.agent_name()));
    if (context.format != Format::table) {
        show_local_status(now, context);
        return 0;
    }
    fmt::print(context.out, "{}\n",
               now.standing().quarantined() ? "in quarantine: only failsafes pass" : "not in quarantine");
    return 0;
}

int run(const QuarantineOptions& options, Context& context)
{
    if (context.local)
        return set_here(options, context);
    if (options.name.empty())
        return report(context, Error{ErrorKind::usage, "which workload?", "give its name, or --local for this host"});
    if (options.force)
        return report(context, Error{ErrorKind::usage, "--force is for --local", ""});
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    v1::SetQuarantineRequest request;
    request.set_name(options.name);
    request.set_on(options.on);
    request.set_reason(options.reason);
    request.set_for_ms(static_cast<std::uint64_t>(options.time.count()));
    request.set_wait_ms(static_cast<std::uint32_t>(answer_wait.count()));
    v1::WorkloadInfo workload;
    grpc::ClientContext call;
    set_deadline(call, answer_wait);
    if (const auto status = (*admin)->SetQuarantine(&call, request, &workload); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));
    show_workload(workload, context);
    if (!options.on && workload.quarantined() && workload.has_local_quarantine())
        return report(context,
                      Error{ErrorKind::failed, fmt::format("'{}' is held on the host itself, too", options.name),
                            "on it: bulkheadctl --local workload release"});
    if (options.on != workload.quarantined())
        return report(context, Error{ErrorKind::failed,
                                     fmt::format("'{}' has not done so yet; it will {}", options.name,
                                                 workload.connected() ? "when it can" : "when it connects"),
                                     "look again with: bulkheadctl workload show " + options.name});
    return 0;
}

} // namespace

std::string quarantine_text(const v1::Quarantine& quarantine)
{
    return fmt::format("by {} since {}{}{}{}", quarantine.by(), format_rfc3339_micros(quarantine.since_us()),
                       quarantine.until_us() == 0 ? "" : " until ",
                       quarantine.until_us() == 0 ? "" : format_rfc3339_micros(quarantine.until_us()),
                       quarantine.reason().empty() ? "" : ": " + quarantine.reason());
}

Json quarantine_document(const v1::Quarantine& quarantine)
{
    return Json{{"by", quarantine.by()},
                {"reason", quarantine.reason()},
                {"since", format_rfc3339_micros(quarantine.since_us())},
                {"until", quarantine.until_us() == 0 ? Json() : Json(format_rfc3339_micros(quarantine.until_us()))}};
}

std::string quarantine_word(const v1::WorkloadInfo& workload)
{
    if (workload.quarantined())
        return "yes";
    return workload.has_quarantine() ? "ordered" : "";
}

std::vector<std::string> quarantine_texts(const v1::WorkloadInfo& workload)
{
    std::vector<std::string> texts;
    if (workload.has_quarantine())
        texts.push_back(quarantine_text(workload.quarantine()) +
                        (workload.quarantined() ? "" : " (not yet in force on the host)"));
    if (workload.has_local_quarantine())
        texts.push_back("on the host, " + quarantine_text(workload.local_quarantine()));
    return texts;
}

Json quarantine_document(const v1::WorkloadInfo& workload)
{
    if (!workload.has_quarantine() && !workload.quarantined())
        return {};
    Json document{{"in_force", workload.quarantined()}};
    document["controller"] = workload.has_quarantine() ? quarantine_document(workload.quarantine()) : Json();
    document["local"] = workload.has_local_quarantine() ? quarantine_document(workload.local_quarantine()) : Json();
    return document;
}

void add_quarantine(CLI::App& workload, Selection& selection)
{
    auto impose = std::make_shared<QuarantineOptions>();
    auto* command = workload.add_subcommand(
        "quarantine", "Cut a host off but for its failsafes, whatever the policy; --local: this host");
    command->add_option("name", impose->name)->type_name("NAME");
    command->add_option("--reason", impose->reason, "Why, for everybody who asks");
    add_duration(*command, "--for", impose->time, "End it by itself after this time (10s to 365d)", for_bounds);
    on_selected(command, selection, impose, run);

    auto release = std::make_shared<QuarantineOptions>();
    release->on = false;
    command = workload.add_subcommand("release", "End a quarantine; --local: of this host");
    command->add_option("name", release->name)->type_name("NAME");
    command->add_option("--reason", release->reason, "Why, for the audit log");
    command->add_flag("--force", release->force, "With --local: also one that the controller holds");
    on_selected(command, selection, release, run);
}

} // namespace bulkhead::cli
