// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/commands/local_status.h"
#include "common/core/clock.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {
namespace {

struct StatusOptions {};

Json document_of(const v1::LocalStatus& status)
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
                {"segments", std::vector<std::string>(status.segments().begin(), status.segments().end())},
                {"labels", std::map<std::string, std::string>(status.labels().begin(), status.labels().end())},
                {"failsafes", failsafes},
                {"counters", counters},
                {"maps", maps},
                {"spool",
                 {{"bytes", status.spool_bytes()},
                  {"first_seq", status.spool_first_seq()},
                  {"next_seq", status.spool_next_seq()},
                  {"acked_seq", status.acked_seq()},
                  {"records_lost", status.records_lost()}}}};
}

std::string connection_text(const v1::LocalStatus& status)
{
    if (status.source().rfind("controller ", 0) != 0)
        return status.source();
    return status.source() + (status.connected() ? ", connected" : ", NOT connected");
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
    if (!status.refusal().empty())
        line("refused", status.refusal());
    line("segments", join({status.segments().begin(), status.segments().end()}, ", "));
    line("labels", labels_text({status.labels().begin(), status.labels().end()}));
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
        print_document(Json{{"version", status.version()},
                            {"policy_version", status.policy_version()},
                            {"records", status.records()},
                            {"agents", status.agents()},
                            {"agents_connected", status.agents_connected()},
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
    return 0;
}

int run_status(const StatusOptions&, Context& context)
{
    return context.local ? show_local_status(context) : show_controller_status(context);
}

} // namespace

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
    if (context.format != Format::table) {
        print_document(document_of(status), context.format, context.out);
        return 0;
    }
    print_facts(status, context);
    print_tables(status, context);
    return 0;
}

void add_status(CLI::App& app, Selection& selection)
{
    on_selected(app.add_subcommand("status", "The controller's state; --local: this host's agent"), selection,
                std::make_shared<StatusOptions>(), run_status);
}

} // namespace bulkhead::cli
