// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/rollout.h"

#include "cli/commands/duration_option.h"
#include "cli/commands/policy_files.h"
#include "common/core/clock.h"

#include <fmt/ostream.h>

#include <optional>

namespace bulkhead::cli {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds default_wait = 5s;
constexpr DurationBounds wait_bounds{0ms, 60s};
constexpr DurationBounds confirm_bounds{10s, 24h};

struct ApplyOptions {
    std::vector<std::string> paths;
    std::string message;
    std::chrono::milliseconds confirm{0};
    bool force = false;
    std::chrono::milliseconds wait = default_wait;
};

struct ConfirmOptions {
    std::uint64_t version = 0;
    std::chrono::milliseconds wait = default_wait;
};

struct RollbackOptions {
    std::uint64_t version = 0;
    std::string message;
    std::chrono::milliseconds wait = default_wait;
};

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

// What to do next, and until when.
void print_trial(const v1::ApplyPolicyReply& reply, Context& context)
{
    const auto back = reply.back_to() == 0 ? std::string("no policy") : fmt::format("version {}", reply.back_to());
    fmt::print(context.err,
               "Unless it is confirmed by {}, every host goes back to {} by itself.\n"
               "  keep it:     bulkheadctl policy confirm\n"
               "  go back now: bulkheadctl policy rollback\n",
               format_rfc3339_micros(reply.trial_until_us()), back);
}

int conclude(const v1::ApplyPolicyReply& reply, Context& context)
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
        fmt::print(context.out, "{} {} {} on {}/{} agents in {:.2f} s",
                   reply.unchanged() ? "unchanged: version" : "version", reply.version(),
                   reply.trial_until_us() == 0 ? "enforced" : "on trial", enforced, connected, seconds);
        if (const auto away = static_cast<std::size_t>(reply.agents_size()) - connected; away > 0)
            fmt::print(context.out, "; {} not connected", away);
        fmt::print(context.out, "\n");
        if (reply.trial_until_us() != 0)
            print_trial(reply, context);
    } else {
        print_document(
            Json{{"version", reply.version()},
                 {"unchanged", reply.unchanged()},
                 {"elapsed_us", reply.elapsed_us()},
                 {"trial_until",
                  reply.trial_until_us() == 0 ? Json() : Json(format_rfc3339_micros(reply.trial_until_us()))},
                 {"back_to", reply.trial_until_us() == 0 ? Json() : Json(reply.back_to())},
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

std::uint32_t in_ms(std::chrono::milliseconds wait)
{
    return static_cast<std::uint32_t>(wait.count());
}

int run_apply(const ApplyOptions& options, Context& context)
{
    if (context.local)
        return report(context, Error{ErrorKind::usage, "an agent alone has no policy apply",
                                     "without a controller, the policy is the files of its policy folder"});
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
    request.set_wait_ms(in_ms(options.wait));
    request.set_confirm_ms(static_cast<std::uint64_t>(options.confirm.count()));
    request.set_force(options.force);
    v1::ApplyPolicyReply reply;
    grpc::ClientContext call;
    set_deadline(call, options.wait);
    if (const auto status = (*admin)->ApplyPolicy(&call, request, &reply); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));
    if (reply.diagnostics_size() > 0) {
        for (const auto& diagnostic : reply.diagnostics())
            fmt::print(context.err, "{}\n", printable_text(diagnostic));
        fmt::print(context.err, "bulkheadctl: the controller refused the policy; nothing was changed\n");
        return exit_code(ErrorKind::invalid);
    }
    return conclude(reply, context);
}

int run_confirm(const ConfirmOptions& options, Context& context)
{
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    v1::ConfirmPolicyRequest request;
    request.set_version(options.version);
    request.set_wait_ms(in_ms(options.wait));
    v1::ApplyPolicyReply reply;
    grpc::ClientContext call;
    set_deadline(call, options.wait);
    if (const auto status = (*admin)->ConfirmPolicy(&call, request, &reply); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));
    return conclude(reply, context);
}

int run_rollback(const RollbackOptions& options, Context& context)
{
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    v1::RollbackPolicyRequest request;
    request.set_version(options.version);
    request.set_message(options.message);
    request.set_wait_ms(in_ms(options.wait));
    v1::ApplyPolicyReply reply;
    grpc::ClientContext call;
    set_deadline(call, options.wait);
    if (const auto status = (*admin)->RollbackPolicy(&call, request, &reply); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));
    if (reply.diagnostics_size() > 0) { // an old version that this controller no longer accepts
        for (const auto& diagnostic : reply.diagnostics())
            fmt::print(context.err, "{}\n", printable_text(diagnostic));
        fmt::print(context.err, "bulkheadctl: the controller refused the policy; nothing was changed\n");
        return exit_code(ErrorKind::invalid);
    }
    return conclude(reply, context);
}

void add_wait(CLI::App& command, std::chrono::milliseconds& wait)
{
    add_duration(command, "--wait", wait, "How long to wait for the agents' answers (default 5s)", wait_bounds);
}

} // namespace

void add_rollout(CLI::App& policy, Selection& selection)
{
    auto apply = std::make_shared<ApplyOptions>();
    auto* command = policy.add_subcommand("apply", "Replace the policy of all hosts by these files");
    command->add_option("path", apply->paths, "Files or folders")->required()->type_name("FILE|DIR");
    command->add_option("-m,--message", apply->message, "Why, for the history");
    add_duration(*command, "--confirm", apply->confirm,
                 "Every host goes back by itself unless `policy confirm` comes within this time (10s to 24h)",
                 confirm_bounds);
    command->add_flag("--force", apply->force, "Also in the place of a version that is on trial");
    add_wait(*command, apply->wait);
    on_selected(command, selection, apply, run_apply);

    auto confirm = std::make_shared<ConfirmOptions>();
    command = policy.add_subcommand("confirm", "Keep the version that is on trial");
    command->add_option("version", confirm->version, "Only if it is this one that is on trial")->type_name("VERSION");
    add_wait(*command, confirm->wait);
    on_selected(command, selection, confirm, run_confirm);

    auto rollback = std::make_shared<RollbackOptions>();
    command = policy.add_subcommand("rollback", "End a trial at once; without one, put an earlier version in force");
    command->add_option("version", rollback->version, "Version (default: the one that was in force before)")
        ->type_name("VERSION");
    command->add_option("-m,--message", rollback->message, "Why, for the history");
    add_wait(*command, rollback->wait);
    on_selected(command, selection, rollback, run_rollback);
}

} // namespace bulkhead::cli
