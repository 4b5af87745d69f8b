// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/commands/quarantine.h"
#include "cli/commands/workload_show.h"
#include "common/record/json.h"

#include <fmt/ostream.h>

#include <algorithm>

namespace bulkhead::cli {
namespace {

struct ListOptions {};

struct ShowOptions {
    std::string name;
};

struct LabelOptions {
    std::string name;
    std::vector<std::string> changes;
};

std::vector<std::string> addresses_of(const v1::WorkloadInfo& workload)
{
    std::vector<std::string> texts;
    for (const auto& address : workload.addresses())
        texts.push_back(record::ip_to_string(address));
    return texts;
}

std::map<std::string, std::string> labels_of(const v1::WorkloadInfo& workload)
{
    return {workload.labels().begin(), workload.labels().end()};
}

std::vector<std::string> segments_of(const v1::WorkloadInfo& workload)
{
    return {workload.segments().begin(), workload.segments().end()};
}

std::string_view agent_word(const v1::WorkloadInfo& workload)
{
    if (!workload.has_agent())
        return "none";
    return workload.connected() ? "connected" : "away";
}

Json document_of(const v1::WorkloadInfo& workload)
{
    return Json{{"name", workload.name()},
                {"labels", labels_of(workload)},
                {"label_sources",
                 std::map<std::string, std::string>(workload.label_sources().begin(), workload.label_sources().end())},
                {"addresses", addresses_of(workload)},
                {"segments", segments_of(workload)},
                {"identity", workload.identity()},
                {"agent", agent_word(workload)},
                {"agent_id", workload.agent_id()},
                {"quarantine", quarantine_document(workload)}};
}

Result<v1::WorkloadList> fetch(Context& context)
{
    BULKHEAD_TRY(auto* admin, context.peers.admin());
    v1::WorkloadList list;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto status = admin->ListWorkloads(&call, {}, &list); !status.ok())
        return tl::unexpected(explain(status, context.peers.admin_name()));
    return list;
}

int run_list(const ListOptions&, Context& context)
{
    const auto list = fetch(context);
    if (!list)
        return report(context, list.error());
    Listing listing;
    // A column for what is out of the ordinary, when something is.
    const bool quarantines =
        std::any_of(list->workloads().begin(), list->workloads().end(),
                    [](const v1::WorkloadInfo& workload) { return !quarantine_word(workload).empty(); });
    listing.columns = {"NAME", "AGENT", "ADDRESSES", "SEGMENTS", "LABELS"};
    if (quarantines)
        listing.columns.insert(listing.columns.begin() + 2, "QUARANTINE");
    listing.when_empty = "no workloads yet: enrol a host (bulkheadctl agent token create) or declare one (workloads:)";
    for (const auto& workload : list->workloads()) {
        auto& row = listing.rows.emplace_back();
        row = {workload.name(), std::string(agent_word(workload)), join(addresses_of(workload), ","),
               join(segments_of(workload), ","), labels_text(labels_of(workload))};
        if (quarantines)
            row.insert(row.begin() + 2, quarantine_word(workload));
        listing.data.push_back(document_of(workload));
    }
    print(listing, context.format, context.out);
    return 0;
}

void show_one(const v1::WorkloadInfo& workload, Context& context)
{
    if (context.format != Format::table) {
        print_document(document_of(workload), context.format, context.out);
        return;
    }
    const auto line = [&](std::string_view key, const std::string& value) {
        fmt::print(context.out, "{:<11} {}\n", key, value.empty() ? "-" : printable(value));
    };
    line("name", workload.name());
    line("agent",
         fmt::format("{}{}{}", agent_word(workload), workload.agent_id().empty() ? "" : ", id ", workload.agent_id()));
    for (const auto& text : quarantine_texts(workload))
        line("quarantine", text);
    line("addresses", join(addresses_of(workload), ", "));
    line("segments", join(segments_of(workload), ", "));
    line("identity", std::to_string(workload.identity()));
    for (const auto& [key, value] : labels_of(workload)) {
        const auto source = workload.label_sources().find(key);
        line("label",
             fmt::format("{}={}{}", key, value,
                         source == workload.label_sources().end() ? "" : fmt::format("  (from {})", source->second)));
    }
}

int run_show(const ShowOptions& options, Context& context)
{
    const auto list = fetch(context);
    if (!list)
        return report(context, list.error());
    for (const auto& workload : list->workloads())
        if (workload.name() == options.name) {
            show_one(workload, context);
            return 0;
        }
    return report(context, Error{ErrorKind::failed, fmt::format("no workload is named '{}'", options.name),
                                 "see them all with: bulkheadctl workload list"});
}

Result<v1::LabelWorkloadRequest> parse_changes(const LabelOptions& options)
{
    v1::LabelWorkloadRequest request;
    request.set_name(options.name);
    for (const auto& change : options.changes) {
        const auto equals = change.find('=');
        if (equals != std::string::npos && equals > 0)
            (*request.mutable_set())[change.substr(0, equals)] = change.substr(equals + 1);
        else if (equals == std::string::npos && change.size() > 1 && change.back() == '-')
            request.add_remove(change.substr(0, change.size() - 1));
        else
            return tl::unexpected(Error{ErrorKind::usage, fmt::format("'{}' is no change of a label", change),
                                        "write key=value to set, key- to take away"});
    }
    return request;
}

int run_label(const LabelOptions& options, Context& context)
{
    const auto request = parse_changes(options);
    if (!request)
        return report(context, request.error());
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    v1::WorkloadInfo workload;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto status = (*admin)->LabelWorkload(&call, *request, &workload); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));
    show_one(workload, context);
    return 0;
}

} // namespace

void show_workload(const v1::WorkloadInfo& workload, Context& context)
{
    show_one(workload, context);
}

void add_workload(CLI::App& app, Selection& selection)
{
    auto* workload = app.add_subcommand("workload", "Hosts and what is known of them");
    workload->require_subcommand(1);
    on_selected(workload->add_subcommand("list", "All workloads"), selection, std::make_shared<ListOptions>(),
                run_list);

    auto show = std::make_shared<ShowOptions>();
    auto* command = workload->add_subcommand("show", "One workload, and where its labels come from");
    command->add_option("name", show->name)->required()->type_name("NAME");
    on_selected(command, selection, show, run_show);

    auto label = std::make_shared<LabelOptions>();
    command = workload->add_subcommand("label", "Set (key=value) or take away (key-) labels");
    command->add_option("name", label->name)->required()->type_name("NAME");
    command->add_option("change", label->changes)->required()->type_name("k=v|k-");
    on_selected(command, selection, label, run_label);

    add_quarantine(*workload, selection);
}

} // namespace bulkhead::cli
