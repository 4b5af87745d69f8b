// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/commands/local_status.h"
#include "common/core/clock.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {
namespace {

struct StatusOptions {
    std::string name;
};

struct TokenOptions {
    std::uint64_t ttl_seconds = 3600;
    std::uint32_t uses = 1;
    std::vector<std::string> labels;
};

std::int64_t now_micros()
{
    return std::chrono::duration_cast<std::chrono::microseconds>(system_clock().wall().time_since_epoch()).count();
}

Json document_of(const v1::AgentInfo& agent)
{
    return Json{{"name", agent.name()},
                {"agent_id", agent.agent_id()},
                {"connected", agent.connected()},
                {"last_seen", agent.last_seen_us() == 0 ? Json() : Json(format_rfc3339_micros(agent.last_seen_us()))},
                {"policy_version", agent.policy_version()},
                {"enforced", agent.enforced()},
                {"refusal", agent.refusal()},
                {"on_trial", agent.connected() && agent.standing().trial_left_ms() != 0},
                {"lapsed_version", agent.standing().lapsed_version()},
                {"quarantined", agent.standing().quarantined()},
                {"agent_version", agent.agent_version()},
                {"kernel_release", agent.kernel_release()},
                {"certificate_expires", format_rfc3339_micros(agent.certificate_expires_us())},
                {"records_spooled", agent.records_spooled()},
                {"records_lost", agent.records_lost()},
                {"last_seq", agent.last_seq()}};
}

std::string state_of(const v1::AgentInfo& agent)
{
    const auto& standing = agent.standing();
    if (standing.quarantined())
        return "in quarantine";
    if (agent.connected() && standing.trial_left_ms() != 0)
        return fmt::format("version {} on trial", agent.policy_version());
    if (agent.policy_version() == 0)
        return agent.refusal().empty() ? "no policy yet" : "refused";
    if (agent.connected() && agent.refusal().empty() && standing.lapsed_version() > agent.policy_version())
        return fmt::format("version {}, {} lapsed", agent.policy_version(), standing.lapsed_version());
    return agent.enforced() ? fmt::format("version {}", agent.policy_version())
                            : fmt::format("refused, keeps version {}", agent.policy_version());
}

std::vector<std::string> row_of(const v1::AgentInfo& agent)
{
    const auto days = (agent.certificate_expires_us() - now_micros()) / 86'400'000'000;
    return {agent.name(),
            agent.connected() ? "connected" : "away, seen " + age_text(agent.last_seen_us(), now_micros()),
            state_of(agent),
            std::to_string(agent.records_spooled()),
            std::to_string(agent.records_lost()),
            fmt::format("{} days", days),
            agent.agent_version(),
            agent.kernel_release(),
            agent.refusal()};
}

int run_status(const StatusOptions& options, Context& context)
{
    if (context.local)
        return show_local_status(context);
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    v1::AgentList list;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto status = (*admin)->ListAgents(&call, {}, &list); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));

    Listing listing;
    listing.columns = {"AGENT",       "CONNECTION", "POLICY", "SPOOLED", "LOST",
                       "CERTIFICATE", "VERSION",    "KERNEL", "REFUSAL"};
    listing.when_empty = "no agents yet: bulkheadctl agent token create";
    for (const auto& agent : list.agents()) {
        if (!options.name.empty() && agent.name() != options.name)
            continue;
        listing.rows.push_back(row_of(agent));
        listing.data.push_back(document_of(agent));
    }
    if (!options.name.empty() && listing.rows.empty())
        return report(context, Error{ErrorKind::failed, fmt::format("no agent is named '{}'", options.name),
                                     "see them all with: bulkheadctl agent status"});
    print(listing, context.format, context.out);
    return 0;
}

int run_token(const TokenOptions& options, Context& context)
{
    v1::CreateTokenRequest request;
    request.set_ttl_seconds(options.ttl_seconds);
    request.set_uses(options.uses);
    for (const auto& label : options.labels) {
        const auto equals = label.find('=');
        if (equals == std::string::npos || equals == 0)
            return report(context, Error{ErrorKind::usage, fmt::format("'{}' is no label", label), "write key=value"});
        (*request.mutable_labels())[label.substr(0, equals)] = label.substr(equals + 1);
    }
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    v1::CreateTokenReply reply;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto status = (*admin)->CreateToken(&call, request, &reply); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));
    if (context.format != Format::table) {
        print_document(Json{{"token", reply.token()}, {"expires", format_rfc3339_micros(reply.expires_us())}},
                       context.format, context.out);
        return 0;
    }
    fmt::print(context.out, "{}\n", reply.token());
    fmt::print(context.err,
               "Good for {} use{} until {}. On the host that joins:\n  bulkheadd --controller HOST:PORT --join TOKEN\n",
               options.uses, options.uses == 1 ? "" : "s", format_rfc3339_micros(reply.expires_us()));
    return 0;
}

} // namespace

void add_agent(CLI::App& app, Selection& selection)
{
    auto* agent = app.add_subcommand("agent", "Agents and how they join");
    agent->require_subcommand(1);

    auto status = std::make_shared<StatusOptions>();
    auto* command = agent->add_subcommand("status", "Connection, policy and losses; --local: this host's agent");
    command->add_option("name", status->name)->type_name("NAME");
    on_selected(command, selection, status, run_status);

    auto* token = agent->add_subcommand("token", "Join tokens");
    token->require_subcommand(1);
    auto create = std::make_shared<TokenOptions>();
    command = token->add_subcommand("create", "Print a new token: on stdout, and nothing else there");
    command->add_option("--for", create->ttl_seconds, "How long it is good (default 1h)")
        ->transform(CLI::AsNumberWithUnit(
            std::map<std::string, std::uint64_t>{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86'400}}))
        ->type_name("DURATION");
    command->add_option("--uses", create->uses, "How many hosts may use it (default 1)")
        ->check(CLI::Range(1U, 100'000U))
        ->type_name("N");
    command->add_option("--label", create->labels, "Label of the hosts that join with it; repeatable")
        ->type_name("k=v")
        ->allow_extra_args(false);
    on_selected(command, selection, create, run_token);

    add_support_bundle(*agent, selection);
}

} // namespace bulkhead::cli
