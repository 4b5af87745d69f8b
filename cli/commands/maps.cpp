// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/commands/local_status.h"

#include <fmt/ostream.h>

#include <algorithm>

namespace bulkhead::cli {
namespace {

struct MapsOptions {
    std::vector<std::string> tables;
    std::uint32_t limit = 20;
};

const std::vector<std::string> table_names{"planes",    "rules",         "peers",  "processes",
                                           "listeners", "conversations", "denials"};

bool wanted(const MapsOptions& options, const v1::KernelTable& table)
{
    return options.tables.empty() ||
           std::find(options.tables.begin(), options.tables.end(), table.name()) != options.tables.end();
}

void print_table(const v1::KernelTable& table, Context& context)
{
    fmt::print(context.out, "\n{} ({}): {}\n", printable(table.name()), table.entries(), printable(table.what()));
    for (const auto& line : table.lines())
        fmt::print(context.out, "  {}\n", printable(line));
    if (const auto shown = static_cast<std::uint64_t>(table.lines_size()); shown < table.entries())
        fmt::print(context.out, "  ... and {} more (--limit 0 shows all)\n", table.entries() - shown);
}

int run_maps(const MapsOptions& options, Context& context)
{
    if (!context.local)
        return report(context, Error{ErrorKind::usage, "maps are those of one host's kernel",
                                     "run it there: bulkheadctl --local maps"});
    auto maps = ask_for_maps(context, options.limit);
    if (!maps) {
        auto error = maps.error();
        if (error.kind == ErrorKind::unreachable)
            error.mend = "the maps are read by the agent, and it does not answer: what it pinned goes on enforcing "
                         "meanwhile; see systemctl status bulkheadd, and run as root";
        return report(context, error);
    }
    if (context.format == Format::table) {
        fmt::print(context.out, "policy version {}, generation {}\n", maps->policy_version(), maps->generation());
        for (const auto& table : maps->tables())
            if (wanted(options, table))
                print_table(table, context);
        return 0;
    }
    auto document = maps_document(*maps);
    auto& tables = document["tables"];
    tables.erase(std::remove_if(tables.begin(), tables.end(),
                                [&](const Json& table) {
                                    return !options.tables.empty() &&
                                           std::find(options.tables.begin(), options.tables.end(), table["name"]) ==
                                               options.tables.end();
                                }),
                 tables.end());
    print_document(document, context.format, context.out);
    return 0;
}

} // namespace

Result<v1::LocalMaps> ask_for_maps(Context& context, std::uint32_t limit)
{
    BULKHEAD_TRY(auto* agent, context.peers.agent());
    v1::MapsQuery query;
    query.set_limit(limit);
    v1::LocalMaps maps;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto result = agent->GetMaps(&call, query, &maps); !result.ok())
        return tl::unexpected(explain(result, context.peers.agent_name()));
    return maps;
}

Json maps_document(const v1::LocalMaps& maps)
{
    auto tables = Json::array();
    for (const auto& table : maps.tables())
        tables.push_back({{"name", table.name()},
                          {"what", table.what()},
                          {"entries", table.entries()},
                          {"lines", std::vector<std::string>(table.lines().begin(), table.lines().end())}});
    return Json{{"policy_version", maps.policy_version()}, {"generation", maps.generation()}, {"tables", tables}};
}

void add_maps(CLI::App& app, Selection& selection)
{
    auto options = std::make_shared<MapsOptions>();
    auto* maps = app.add_subcommand("maps", "With --local: what this host's kernel holds, in words");
    maps->add_option("table", options->tables, "Only these tables (default: all)")
        ->check(CLI::IsMember(table_names))
        ->type_name("TABLE");
    maps->add_option("--limit", options->limit, "At most so many lines a table; 0: all (default 20)")->type_name("N");
    on_selected(maps, selection, options, run_maps);
}

} // namespace bulkhead::cli
