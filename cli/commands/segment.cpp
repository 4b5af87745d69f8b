// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {
namespace {

struct ListOptions {};

struct ShowOptions {
    std::string name;
};

std::vector<std::string> workloads_of(const v1::SegmentInfo& segment)
{
    return {segment.workloads().begin(), segment.workloads().end()};
}

Json document_of(const v1::SegmentInfo& segment)
{
    auto rules = Json::array();
    for (const auto& rule : segment.rule())
        rules.push_back({{"id", rule.id()},
                         {"action", rule.action()},
                         {"from", rule.from()},
                         {"to", rule.to()},
                         {"services", rule.services()},
                         {"process", rule.process()},
                         {"where", rule.where()},
                         {"reason", rule.reason()}});
    return Json{{"name", segment.name()},
                {"description", segment.description()},
                {"owner", segment.owner()},
                {"mode", segment.mode()},
                {"inbound", segment.inbound()},
                {"outbound", segment.outbound()},
                {"sessions", segment.sessions()},
                {"selector", segment.selector()},
                {"workloads", workloads_of(segment)},
                {"rules", rules}};
}

Result<v1::SegmentList> fetch(Context& context)
{
    BULKHEAD_TRY(auto* admin, context.peers.admin());
    v1::SegmentList list;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto status = admin->ListSegments(&call, {}, &list); !status.ok())
        return tl::unexpected(explain(status, context.peers.admin_name()));
    return list;
}

int run_list(const ListOptions&, Context& context)
{
    const auto list = fetch(context);
    if (!list)
        return report(context, list.error());
    Listing listing;
    listing.columns = {"NAME", "MODE", "INBOUND", "OUTBOUND", "SESSIONS", "RULES", "WORKLOADS", "SELECTOR"};
    listing.when_empty = "no segments yet: apply a policy (bulkheadctl policy apply FILE)";
    for (const auto& segment : list->segments()) {
        listing.rows.push_back({segment.name(), segment.mode(), segment.inbound(), segment.outbound(),
                                segment.sessions(), std::to_string(segment.rules()),
                                std::to_string(segment.workloads_size()), segment.selector()});
        listing.data.push_back(document_of(segment));
    }
    print(listing, context.format, context.out);
    return 0;
}

void show_one(const v1::SegmentInfo& segment, Context& context)
{
    if (context.format != Format::table) {
        print_document(document_of(segment), context.format, context.out);
        return;
    }
    const auto line = [&](std::string_view key, const std::string& value) {
        fmt::print(context.out, "{:<12} {}\n", key, value.empty() ? "-" : printable(value));
    };
    line("name", segment.name());
    line("description", segment.description());
    line("owner", segment.owner());
    line("selector", segment.selector());
    line("mode", segment.mode());
    line("by default", fmt::format("inbound {}, outbound {}", segment.inbound(), segment.outbound()));
    line("sessions", segment.sessions());
    line("workloads", join(workloads_of(segment), ", "));
    fmt::print(context.out, "\n");
    Listing rules;
    rules.columns = {"RULE", "ACTION", "FROM", "TO", "SERVICES", "PROCESS", "WHERE", "REASON"};
    rules.when_empty = "no rules";
    for (const auto& rule : segment.rule())
        rules.rows.push_back({rule.id(), rule.action(), rule.from(), rule.to(), rule.services(), rule.process(),
                              rule.where(), rule.reason()});
    print(rules, Format::table, context.out);
}

int run_show(const ShowOptions& options, Context& context)
{
    const auto list = fetch(context);
    if (!list)
        return report(context, list.error());
    for (const auto& segment : list->segments())
        if (segment.name() == options.name) {
            show_one(segment, context);
            return 0;
        }
    return report(context, Error{ErrorKind::failed, fmt::format("no segment is named '{}'", options.name),
                                 "see them all with: bulkheadctl segment list"});
}

} // namespace

void add_segment(CLI::App& app, Selection& selection)
{
    auto* segment = app.add_subcommand("segment", "Segments of the policy in force");
    segment->require_subcommand(1);
    on_selected(segment->add_subcommand("list", "All segments"), selection, std::make_shared<ListOptions>(), run_list);

    auto show = std::make_shared<ShowOptions>();
    auto* command = segment->add_subcommand("show", "One segment, its rules and its workloads");
    command->add_option("name", show->name)->required()->type_name("NAME");
    on_selected(command, selection, show, run_show);
}

} // namespace bulkhead::cli
