// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/commands/record_options.h"
#include "cli/output/record_line.h"
#include "common/core/clock.h"
#include "common/record/filter.h"
#include "common/record/json.h"

#include <fmt/ostream.h>

#include <deque>
#include <fstream>

namespace bulkhead::cli {
namespace {

// Writes one record in the chosen form; false when nobody reads any more (`| head`).
bool write_record(const v1::Record& record, const RecordOptions& options, Context& context)
{
    // A gap is no violation, but it may stand for some: whoever looks for violations must hear of it.
    if (options.violations_only && record.kind() == v1::Record::GAP) {
        fmt::print(context.err, "bulkheadctl: note: {}\n", record_line(record, false));
        return true;
    }
    switch (context.format) {
    case Format::table: context.out << record_line(record, context.colour) << '\n'; break;
    case Format::json: context.out << record::to_json(record) << '\n'; break;
    case Format::yaml:
        context.out << "---\n";
        print_document(Json::parse(record::to_json(record), nullptr, false), Format::yaml, context.out);
        break;
    }
    return static_cast<bool>(context.out);
}

int from_file(const RecordOptions& options, const v1::RecordQuery& query, Context& context)
{
    const auto matcher = record::make_matcher(query);
    if (!matcher)
        return report(context, matcher.error());
    std::ifstream file;
    if (options.input_file != "-") {
        file.open(options.input_file);
        if (!file)
            return report(context, fail_errno(errno, options.input_file).value());
    }
    std::istream& in = options.input_file == "-" ? context.in : file;
    std::deque<v1::Record> newest; // of --last
    std::string line;
    for (std::size_t number = 1; std::getline(in, line); ++number) {
        if (line.empty())
            continue;
        auto record = record::from_json(line);
        if (!record)
            return report(context, std::move(record.error()).within(fmt::format("{}:{}", options.input_file, number)));
        if (!(*matcher)->matches(*record))
            continue;
        if (options.last == 0) {
            if (!write_record(*record, options, context))
                return 0;
            continue;
        }
        newest.push_back(std::move(*record));
        if (newest.size() > options.last)
            newest.pop_front();
    }
    for (const auto& record : newest)
        if (!write_record(record, options, context))
            return 0;
    return 0;
}

using Reader = grpc::ClientReaderInterface<v1::RecordBatch>;

int stream(Reader& reader, grpc::ClientContext& call, const RecordOptions& options, const std::string& peer,
           Context& context)
{
    v1::RecordBatch batch;
    while (reader.Read(&batch)) {
        for (const auto& record : batch.records())
            if (!write_record(record, options, context)) {
                call.TryCancel();
                reader.Finish();
                return 0;
            }
        context.out.flush();
    }
    if (const auto status = reader.Finish(); !status.ok())
        return report(context, explain(status, peer));
    return 0;
}

int run_records(const RecordOptions& options, Context& context)
{
    const auto now =
        std::chrono::duration_cast<std::chrono::microseconds>(system_clock().wall().time_since_epoch()).count();
    const auto query = make_query(options, now);
    if (!query)
        return report(context, query.error());
    if (const auto matcher = record::make_matcher(*query); !matcher)
        return report(context, matcher.error());
    if (!options.input_file.empty())
        return from_file(options, *query, context);

    grpc::ClientContext call;
    if (!options.follow)
        set_deadline(call, std::chrono::minutes(5)); // a long history takes its time
    if (context.local) {
        auto agent = context.peers.agent();
        if (!agent)
            return report(context, agent.error());
        return stream(*(*agent)->QueryRecords(&call, *query), call, options, context.peers.agent_name(), context);
    }
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    return stream(*(*admin)->QueryRecords(&call, *query), call, options, context.peers.admin_name(), context);
}

void add_filters(CLI::App& command, RecordOptions& options)
{
    // Each occurrence takes one value, so that `--from a b` is a mistake and not a second filter.
    const auto repeated = [&](const char* name, auto& list, const char* help, const char* type) {
        command.add_option(name, list, help)->type_name(type)->allow_extra_args(false);
    };
    auto* follow = command.add_flag("-f,--follow", options.follow, "Wait for new records");
    command.add_option("--last", options.last, "The newest N (default 20; 10 before following)")
        ->check(CLI::Range(1U, 10'000'000U))
        ->type_name("N");
    command.add_option("--since", options.since, "From this time: 90s, 5m, 2h, 7d ago or RFC 3339")->type_name("T");
    command.add_option("--until", options.until, "Up to this time")->type_name("T");
    repeated("--verdict", options.verdicts, "allowed, denied or would-deny", "V");
    repeated("--from", options.from, "Source: IP, CIDR, workload, segment, k=v,k=v or any", "SEL");
    repeated("--to", options.to, "Destination, likewise", "SEL");
    repeated("--host", options.hosts, "Host that reported it", "H");
    command.add_option("--port", options.ports, "Destination port")
        ->check(CLI::Range(0U, 65'535U))
        ->type_name("P")
        ->allow_extra_args(false);
    repeated("--protocol", options.protocols, "tcp, udp, icmp, icmpv6 or a number", "P");
    repeated("--process", options.processes, "Executable, a glob", "GLOB");
    repeated("--unit", options.units, "systemd unit", "U");
    repeated("--direction", options.directions, "inbound, outbound, forwarded or local", "D");
    repeated("--not", options.exclude, "Leave out: another filter as KEY=VALUE, for example port=53", "FILTER");
    command.add_option("--input-file", options.input_file, "Read records (JSON lines) from a file; - for stdin")
        ->type_name("F|-")
        ->excludes(follow);
    command.footer("The same filter repeated: or. Different filters: and.");
}

void add_one(CLI::App& app, Selection& selection, const char* name, const char* help, bool violations_only)
{
    auto options = std::make_shared<RecordOptions>();
    options->violations_only = violations_only;
    auto* command = app.add_subcommand(name, help);
    add_filters(*command, *options);
    on_selected(command, selection, options, run_records);
}

} // namespace

void add_records(CLI::App& app, Selection& selection)
{
    add_one(app, selection, "flows", "Connections and attempts, allowed and denied", false);
    add_one(app, selection, "violations", "Attempts that were refused, or would be", true);
}

} // namespace bulkhead::cli
