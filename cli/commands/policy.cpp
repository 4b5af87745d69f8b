// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "common/core/clock.h"
#include "common/policy/parse.h"

#include <fmt/ostream.h>

#include <algorithm>

namespace bulkhead::cli {
namespace {

struct ValidateOptions {
    std::vector<std::string> paths;
};

struct ApplyOptions {
    std::vector<std::string> paths;
    std::string message;
    std::uint32_t wait_ms = 5000;
};

struct ShowOptions {
    std::uint64_t version = 0;
};

void print_diagnostics(const std::vector<policy::Diagnostic>& diagnostics, Context& context)
{
    for (const auto& diagnostic : diagnostics)
        fmt::print(context.err, "{}\n", printable_text(diagnostic.to_string()));
    fmt::print(context.err, "bulkheadctl: {} error{}; nothing was changed\n", diagnostics.size(),
               diagnostics.size() == 1 ? "" : "s");
}

struct CheckedFiles {
    std::vector<policy::SourceFile> files;
    policy::PolicySet policy;
};

// Reads and parses; on failure everything has been said and the exit code is returned.
tl::expected<CheckedFiles, int> read_checked(const std::vector<std::string>& paths, Context& context)
{
    auto files = policy::read_policy_files(paths);
    if (!files)
        return tl::unexpected(report(context, files.error()));
    auto outcome = policy::parse(*files);
    if (!outcome.ok()) {
        print_diagnostics(outcome.diagnostics, context);
        return tl::unexpected(exit_code(ErrorKind::invalid));
    }
    return CheckedFiles{std::move(*files), std::move(outcome.policy)};
}

int run_validate(const ValidateOptions& options, Context& context)
{
    const auto checked = read_checked(options.paths, context);
    if (!checked)
        return checked.error();
    std::size_t rules = 0;
    for (const auto& segment : checked->policy.segments)
        rules += segment.rules.size();
    const auto count = [](std::size_t n, std::string_view noun) {
        return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
    };
    if (context.format != Format::table) {
        print_document(Json{{"valid", true},
                            {"files", checked->files.size()},
                            {"segments", checked->policy.segments.size()},
                            {"rules", rules},
                            {"workloads", checked->policy.workloads.size()}},
                       context.format, context.out);
        return 0;
    }
    fmt::print(context.out, "valid: {}, {}, {}, {}\n", count(checked->files.size(), "file"),
               count(checked->policy.segments.size(), "segment"), count(rules, "rule"),
               count(checked->policy.workloads.size(), "declared workload"));
    return 0;
}

std::string_view outcome_of(const v1::AgentResult& agent)
{
    if (!agent.connected())
        return "not connected";
    if (!agent.answered())
        return "no answer yet";
    return agent.result().enforced() ? "enforced" : "refused";
}

void print_agents(const v1::ApplyPolicyReply& reply, Context& context)
{
    Listing listing;
    listing.columns = {"AGENT", "RESULT", "REALISED IN", "REASON"};
    for (const auto& agent : reply.agents()) {
        const auto realised =
            agent.answered() ? fmt::format("{:.1f} ms", static_cast<double>(agent.result().realise_us()) / 1000) : "";
        listing.rows.push_back({agent.name(), std::string(outcome_of(agent)), realised, agent.result().refusal()});
    }
    print(listing, Format::table, context.out);
}

Json agents_document(const v1::ApplyPolicyReply& reply)
{
    auto agents = Json::array();
    for (const auto& agent : reply.agents())
        agents.push_back({{"name", agent.name()},
                          {"agent_id", agent.agent_id()},
                          {"result", outcome_of(agent)},
                          {"realise_us", agent.result().realise_us()},
                          {"refusal", agent.result().refusal()}});
    return agents;
}

int conclude_apply(const v1::ApplyPolicyReply& reply, Context& context)
{
    std::size_t enforced = 0;
    std::size_t connected = 0;
    std::size_t refused = 0;
    for (const auto& agent : reply.agents()) {
        connected += agent.connected() ? 1 : 0;
        enforced += agent.answered() && agent.result().enforced() ? 1 : 0;
        refused += agent.answered() && !agent.result().enforced() ? 1 : 0;
    }
    const auto seconds = static_cast<double>(reply.elapsed_us()) / 1e6;
    if (context.format == Format::table) {
        if (reply.agents_size() > 0)
            print_agents(reply, context);
        fmt::print(context.out, "{} {} enforced on {}/{} agents in {:.2f} s",
                   reply.unchanged() ? "unchanged: version" : "version", reply.version(), enforced, connected, seconds);
        if (const auto away = static_cast<std::size_t>(reply.agents_size()) - connected; away > 0)
            fmt::print(context.out, "; {} not connected", away);
        fmt::print(context.out, "\n");
    } else {
        print_document(Json{{"version", reply.version()},
                            {"unchanged", reply.unchanged()},
                            {"elapsed_us", reply.elapsed_us()},
                            {"agents", agents_document(reply)}},
                       context.format, context.out);
    }
    if (refused > 0)
        return report(context,
                      Error{ErrorKind::failed,
                            fmt::format("{} agent{} refused version {} and {} the previous policy", refused,
                                        refused == 1 ? "" : "s", reply.version(), refused == 1 ? "keeps" : "keep"),
                            "the reason is in the table"});
    if (enforced < connected)
        return report(context, Error{ErrorKind::failed,
                                     fmt::format("{} connected agent(s) have not answered yet", connected - enforced),
                                     "look again with: bulkheadctl agent status"});
    return 0;
}

int run_apply(const ApplyOptions& options, Context& context)
{
    const auto checked = read_checked(options.paths, context);
    if (!checked)
        return checked.error();
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());

    v1::ApplyPolicyRequest request;
    for (const auto& file : checked->files) {
        auto* sent = request.add_files();
        sent->set_name(file.name);
        sent->set_text(file.text);
    }
    request.set_message(options.message);
    request.set_wait_ms(options.wait_ms);
    v1::ApplyPolicyReply reply;
    grpc::ClientContext call;
    set_deadline(call, std::chrono::milliseconds(options.wait_ms));
    if (const auto status = (*admin)->ApplyPolicy(&call, request, &reply); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));
    if (reply.diagnostics_size() > 0) {
        for (const auto& diagnostic : reply.diagnostics())
            fmt::print(context.err, "{}\n", printable_text(diagnostic));
        fmt::print(context.err, "bulkheadctl: the controller refused the policy; nothing was changed\n");
        return exit_code(ErrorKind::invalid);
    }
    return conclude_apply(reply, context);
}

int show_local(Context& context)
{
    auto agent = context.peers.agent();
    if (!agent)
        return report(context, agent.error());
    v1::LocalPolicy reply;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto status = (*agent)->GetPolicy(&call, {}, &reply); !status.ok())
        return report(context, explain(status, context.peers.agent_name()));
    if (context.format != Format::table) {
        print_document(Json{{"version", reply.policy_version()},
                            {"lines", std::vector<std::string>(reply.lines().begin(), reply.lines().end())}},
                       context.format, context.out);
        return 0;
    }
    fmt::print(context.out, "# version {} as this host enforces it\n", reply.policy_version());
    for (const auto& line : reply.lines())
        fmt::print(context.out, "{}\n", printable(line));
    return 0;
}

int run_show(const ShowOptions& options, Context& context)
{
    if (context.local)
        return show_local(context);
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    v1::GetPolicyRequest request;
    request.set_version(options.version);
    v1::GetPolicyReply reply;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto status = (*admin)->GetPolicy(&call, request, &reply); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));
    if (reply.version() == 0) {
        fmt::print(context.err, "no policy has been applied yet\n");
        return 0;
    }
    if (context.format != Format::table) {
        auto files = Json::array();
        for (const auto& file : reply.files())
            files.push_back({{"name", file.name()}, {"text", file.text()}});
        print_document(Json{{"version", reply.version()},
                            {"created", format_rfc3339_micros(reply.created_us())},
                            {"author", reply.author()},
                            {"message", reply.message()},
                            {"files", files}},
                       context.format, context.out);
        return 0;
    }
    fmt::print(context.out, "# version {}, {}, by {}{}{}\n", reply.version(), format_rfc3339_micros(reply.created_us()),
               printable(reply.author()), reply.message().empty() ? "" : ": ", printable(reply.message()));
    bool first = true;
    for (const auto& file : reply.files()) {
        fmt::print(context.out, "{}# {}\n{}", first ? "" : "---\n", printable(file.name()),
                   printable_text(file.text()));
        if (!file.text().empty() && file.text().back() != '\n')
            fmt::print(context.out, "\n");
        first = false;
    }
    return 0;
}

} // namespace

void add_policy(CLI::App& app, Selection& selection)
{
    auto* policy = app.add_subcommand("policy", "Check, apply and show the policy");
    policy->require_subcommand(1);

    auto validate = std::make_shared<ValidateOptions>();
    auto* command = policy->add_subcommand("validate", "Check files offline: every error, with its place and its mend");
    command->add_option("path", validate->paths, "Files or folders")->required()->type_name("FILE|DIR");
    on_selected(command, selection, validate, run_validate);

    auto apply = std::make_shared<ApplyOptions>();
    command = policy->add_subcommand("apply", "Replace the policy of all hosts by these files");
    command->add_option("path", apply->paths, "Files or folders")->required()->type_name("FILE|DIR");
    command->add_option("-m,--message", apply->message, "Why, for the history");
    command->add_option("--wait", apply->wait_ms, "How long to wait for the agents' answers (default 5s)")
        ->transform(CLI::AsNumberWithUnit(std::map<std::string, std::uint32_t>{{"ms", 1}, {"s", 1000}, {"m", 60'000}}));
    on_selected(command, selection, apply, run_apply);

    auto show = std::make_shared<ShowOptions>();
    command =
        policy->add_subcommand("show", "The policy in force, or an earlier version; --local: as this host has it");
    command->add_option("version", show->version, "Version (default: the one in force)")->type_name("VERSION");
    on_selected(command, selection, show, run_show);
}

} // namespace bulkhead::cli
