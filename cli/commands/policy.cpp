// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/commands/policy_files.h"
#include "cli/commands/rollout.h"
#include "common/core/clock.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {
namespace {

struct ValidateOptions {
    std::vector<std::string> paths;
};

struct ShowOptions {
    std::uint64_t version = 0;
};

struct HistoryOptions {};

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

// "on trial until TIME, else back to what was before", "confirmed at TIME by NAME": what there is to say of a version
// besides who applied it.
std::string fate_of(const v1::PolicyEdition& edition)
{
    if (edition.trial_until_us() == 0)
        return "";
    if (edition.status() == "on-trial")
        return "until " + format_rfc3339_micros(edition.trial_until_us());
    return fmt::format("{}at {} by {}", edition.confirmed() ? "confirmed " : "",
                       format_rfc3339_micros(edition.ended_us()), edition.ended_by());
}

Json document_of(const v1::PolicyEdition& edition)
{
    const auto time_or_null = [](std::int64_t us) { return us == 0 ? Json() : Json(format_rfc3339_micros(us)); };
    return Json{{"version", edition.version()},
                {"created", format_rfc3339_micros(edition.created_us())},
                {"author", edition.author()},
                {"message", edition.message()},
                {"status", edition.status()},
                {"confirmed", edition.confirmed()},
                {"trial_until", time_or_null(edition.trial_until_us())},
                {"ended", time_or_null(edition.ended_us())},
                {"ended_by", edition.ended_by()}};
}

int run_history(const HistoryOptions&, Context& context)
{
    auto admin = context.peers.admin();
    if (!admin)
        return report(context, admin.error());
    v1::PolicyList list;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto status = (*admin)->ListPolicies(&call, {}, &list); !status.ok())
        return report(context, explain(status, context.peers.admin_name()));
    Listing listing;
    listing.columns = {"VERSION", "APPLIED", "BY", "STATUS", "TRIAL", "MESSAGE"};
    listing.when_empty = "no policy yet: bulkheadctl policy apply FILE";
    for (const auto& edition : list.editions()) {
        listing.rows.push_back({std::to_string(edition.version()), format_rfc3339_micros(edition.created_us()),
                                edition.author(), edition.status(), fate_of(edition), edition.message()});
        listing.data.push_back(document_of(edition));
    }
    print(listing, context.format, context.out);
    return 0;
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
        auto document = document_of(reply.edition());
        document["files"] = files;
        print_document(document, context.format, context.out);
        return 0;
    }
    fmt::print(context.out, "# version {}, {}, by {}{}{}\n", reply.version(), format_rfc3339_micros(reply.created_us()),
               printable(reply.author()), reply.message().empty() ? "" : ": ", printable(reply.message()));
    const auto fate = fate_of(reply.edition());
    fmt::print(context.out, "# {}{}{}\n", reply.edition().status(), fate.empty() ? "" : ", ", printable(fate));
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

    add_rollout(*policy, selection);
    on_selected(policy->add_subcommand("history", "All versions, newest first, and what became of each"), selection,
                std::make_shared<HistoryOptions>(), run_history);

    auto show = std::make_shared<ShowOptions>();
    command =
        policy->add_subcommand("show", "The policy in force, or an earlier version; --local: as this host has it");
    command->add_option("version", show->version, "Version (default: the one in force)")->type_name("VERSION");
    on_selected(command, selection, show, run_show);
}

} // namespace bulkhead::cli
