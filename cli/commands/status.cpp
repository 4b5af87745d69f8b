// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/commands/local_status.h"
#include "cli/commands/quarantine.h"
#include "common/core/clock.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {
namespace {

struct StatusOptions {};

Json trial_document(const v1::Standing& standing)
{
    if (standing.trial_left_ms() == 0)
        return {};
    return Json{{"version", standing.policy_version()},
                {"left_ms", standing.trial_left_ms()},
                {"back_to", standing.confirmed_version()}};
}

Json holds_document(const v1::Standing& standing)
{
    if (!standing.quarantined() && !standing.has_local_quarantine() && !standing.has_controller_quarantine())
        return {};
    Json document{{"in_force", standing.quarantined()}};
    document["controller"] =
        standing.has_controller_quarantine() ? quarantine_document(standing.controller_quarantine()) : Json();
    document["local"] = standing.has_local_quarantine() ? quarantine_document(standing.local_quarantine()) : Json();
    return document;
}

// What is out of the ordinary, as lines of the status.
std::vector<std::pair<std::string_view, std::string>> trial_and_quarantine(const v1::Standing& standing)
{
    std::vector<std::pair<std::string_view, std::string>> lines;
    if (standing.quarantined())
        lines.emplace_back("QUARANTINE", "only failsafes pass, whatever the policy");
    if (standing.has_controller_quarantine())
        lines.emplace_back("quarantine", quarantine_text(standing.controller_quarantine()));
    if (standing.has_local_quarantine())
        lines.emplace_back("quarantine", quarantine_text(standing.local_quarantine()));
    if (standing.trial_left_ms() != 0)
        lines.emplace_back("on trial", fmt::format("version {}: back to version {} in {} s unless it is confirmed",
                                                   standing.policy_version(), standing.confirmed_version(),
                                                   (standing.trial_left_ms() + 999) / 1000));
    else if (standing.lapsed_version() != 0)
        lines.emplace_back("lapsed", fmt::format("version {} was not confirmed", standing.lapsed_version()));
    return lines;
}

std::string connection_text(const v1::LocalStatus& status)
{
    if (status.source().rfind("controller ", 0) != 0)
        return status.source();
    return status.source() + (status.connected() ? ", connected" : ", NOT connected");
}

// Where what has no door is judged, and where doors stand beside the agent's own namespace.
std::string guard_text(const v1::GuardStatus& guard)
{
    auto text = guard.mode();
    if (guard.mode() == "auto")
        text += " (always, on this kernel)";
    if (guard.interfaces().empty())
        text += ": on no interface";
    else
        text += fmt::format(": {} on {}", guard.attached(),
                            join({guard.interfaces().begin(), guard.interfaces().end()}, ", "));
    if (!guard.early_drop().empty())
        text += fmt::format("; what arrives is dropped by XDP on {}",
                            join({guard.early_drop().begin(), guard.early_drop().end()}, ", "));
    text += fmt::format("; inbound door in {} other network namespace{}", guard.namespaces(),
                        guard.namespaces() == 1 ? "" : "s");
    return guard.cgroup_ingress() ? text + ", sockets judged where none stands (cgroup_ingress)" : text;
}

void print_facts(const v1::LocalStatus& status, Context& context)
{
    const auto line = [&](std::string_view key, const std::string& value) {
        fmt::print(context.out, "{:<12} {}\n", key, value.empty() ? "-" : printable(value));
    };
    line("host", status.hostname());
    line("agent", fmt::format("{}, version {}", status.agent_id(), status.version()));
    line("policy from", connection_text(status));
    line("in force", status.enforcing()
                         ? fmt::format("version {} (generation {})", status.policy_version(), status.generation())
                         : "nothing: no policy yet, everything passes");
    for (const auto& text : trial_and_quarantine(status.standing()))
        line(text.first, text.second);
    if (!status.refusal().empty())
        line("refused", status.refusal());
    for (const auto& warning : status.warnings())
        line("WARNING", warning);
    for (const auto& condition : status.unmatched())
        line("no process", condition);
    for (const auto& one : status.tampering())
        line("TAMPERING", fmt::format("{} {}: {}", format_rfc3339_micros(one.time_us()), one.what(), one.outcome()));
    line("segments", join({status.segments().begin(), status.segments().end()}, ", "));
    line("labels", labels_text({status.labels().begin(), status.labels().end()}));
    line("guard", guard_text(status.guard()));
    line("cgroup", status.cgroup());
    line("state", status.state_dir());
    line("records", fmt::format("{} to {} in the spool ({}), delivered up to {}, lost {}", status.spool_first_seq(),
                                status.spool_next_seq() - 1, bytes_text(status.spool_bytes()), status.acked_seq(),
                                status.records_lost()));
}

void print_tables(const v1::LocalStatus& status, Context& context)
{
    Listing failsafes;
    failsafes.columns = {"FAILSAFE", "DIRECTION", "PEERS", "SERVICES"};
    failsafes.when_empty = "no failsafes";
    for (const auto& failsafe : status.failsafes())
        failsafes.rows.push_back({failsafe.name(), failsafe.direction(), failsafe.peers(), failsafe.services()});
    fmt::print(context.out, "\n");
    print(failsafes, Format::table, context.out);

    Listing maps;
    maps.columns = {"MAP", "ENTRIES", "CAPACITY"};
    for (const auto& map : status.maps())
        maps.rows.push_back({map.name(), std::to_string(map.entries()), std::to_string(map.capacity())});
    fmt::print(context.out, "\n");
    print(maps, Format::table, context.out);

    Listing counters;
    counters.columns = {"COUNTER", "VALUE"};
    for (const auto& counter : status.counters())
        counters.rows.push_back({counter.name(), std::to_string(counter.value())});
    fmt::print(context.out, "\n");
    print(counters, Format::table, context.out);
}

int show_controller_status(Context& context)
{
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    v1::ControllerStatus status;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto result = (*admin)->GetStatus(&call, {}, &status); !result.ok())
        return report(context, explain(result, context.peers.admin_name()));
    if (context.format != Format::table) {
        print_document(
            Json{{"version", status.version()},
                 {"policy_version", status.policy_version()},
                 {"records", status.records()},
                 {"agents", status.agents()},
                 {"agents_connected", status.agents_connected()},
                 {"quarantined", status.quarantined()},
                 {"trial", status.trial_version() == 0 ? Json()
                                                       : Json{{"version", status.trial_version()},
                                                              {"until", format_rfc3339_micros(status.trial_until_us())},
                                                              {"by", status.trial_by()}}},
                 {"started", format_rfc3339_micros(status.started_us())}},
            context.format, context.out);
        return 0;
    }
    fmt::print(
        context.out,
        "{}, version {}, up since {}\npolicy       {}\nagents       {} of {} connected\nrecords      {} stored\n",
        context.peers.admin_name(), printable(status.version()), format_rfc3339_micros(status.started_us()),
        status.policy_version() == 0 ? "none yet" : fmt::format("version {}", status.policy_version()),
        status.agents_connected(), status.agents(), status.records());
    if (status.trial_version() != 0)
        fmt::print(context.out, "on trial     version {} by {}, until {}\n", status.trial_version(),
                   printable(status.trial_by()), format_rfc3339_micros(status.trial_until_us()));
    if (status.quarantined() != 0)
        fmt::print(context.out, "quarantine   {} workload{}\n", status.quarantined(),
                   status.quarantined() == 1 ? "" : "s");
    return 0;
}

int run_status(const StatusOptions&, Context& context)
{
    return context.local ? show_local_status(context) : show_controller_status(context);
}

} // namespace

Json status_document(const v1::LocalStatus& status)
{
    auto failsafes = Json::array();
    for (const auto& failsafe : status.failsafes())
        failsafes.push_back({{"name", failsafe.name()},
                             {"direction", failsafe.direction()},
                             {"peers", failsafe.peers()},
                             {"services", failsafe.services()}});
    Json counters = Json::object();
    for (const auto& counter : status.counters())
        counters[counter.name()] = counter.value();
    auto maps = Json::array();
    for (const auto& map : status.maps())
        maps.push_back({{"name", map.name()}, {"entries", map.entries()}, {"capacity", map.capacity()}});
    auto tampering = Json::array();
    for (const auto& one : status.tampering())
        tampering.push_back(
            {{"time", format_rfc3339_micros(one.time_us())}, {"what", one.what()}, {"outcome", one.outcome()}});
    return Json{{"hostname", status.hostname()},
                {"agent_id", status.agent_id()},
                {"version", status.version()},
                {"cgroup", status.cgroup()},
                {"state_dir", status.state_dir()},
                {"source", status.source()},
                {"connected", status.connected()},
                {"policy_version", status.policy_version()},
                {"generation", status.generation()},
                {"enforcing", status.enforcing()},
                {"refusal", status.refusal()},
                {"trial", trial_document(status.standing())},
                {"lapsed_version", status.standing().lapsed_version()},
                {"quarantine", holds_document(status.standing())},
                {"segments", std::vector<std::string>(status.segments().begin(), status.segments().end())},
                {"labels", std::map<std::string, std::string>(status.labels().begin(), status.labels().end())},
                {"failsafes", failsafes},
                {"counters", counters},
                {"maps", maps},
                {"guard",
                 {{"mode", status.guard().mode()},
                  {"attached", status.guard().attached()},
                  {"interfaces",
                   std::vector<std::string>(status.guard().interfaces().begin(), status.guard().interfaces().end())},
                  {"early_drop",
                   std::vector<std::string>(status.guard().early_drop().begin(), status.guard().early_drop().end())},
                  {"namespaces", status.guard().namespaces()},
                  {"cgroup_ingress", status.guard().cgroup_ingress()}}},
                {"tampering", tampering},
                {"warnings", std::vector<std::string>(status.warnings().begin(), status.warnings().end())},
                {"unmatched", std::vector<std::string>(status.unmatched().begin(), status.unmatched().end())},
                {"spool",
                 {{"bytes", status.spool_bytes()},
                  {"first_seq", status.spool_first_seq()},
                  {"next_seq", status.spool_next_seq()},
                  {"acked_seq", status.acked_seq()},
                  {"records_lost", status.records_lost()}}}};
}

int show_local_status(Context& context)
{
    auto agent = context.peers.agent();
    if (!agent)
        return report(context, agent.error());
    v1::LocalStatus status;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto result = (*agent)->GetStatus(&call, {}, &status); !result.ok())
        return report(context, explain(result, context.peers.agent_name()));
    show_local_status(status, context);
    return 0;
}

void show_local_status(const v1::LocalStatus& status, Context& context)
{
    if (context.format != Format::table) {
        print_document(status_document(status), context.format, context.out);
        return;
    }
    print_facts(status, context);
    print_tables(status, context);
}

void add_status(CLI::App& app, Selection& selection)
{
    on_selected(app.add_subcommand("status", "The controller's state; --local: this host's agent"), selection,
                std::make_shared<StatusOptions>(), run_status);
}

} // namespace bulkhead::cli
