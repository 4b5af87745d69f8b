// SPDX-License-Identifier: Apache-2.0
#include "controller/api/policy_calls.h"

#include "common/core/log.h"
#include "controller/api/caller.h"
#include "controller/policy/describe.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// One call that changes what is in force: from its start to the agents' answers.
class Rollout {
public:
    Rollout(const ApiParts& parts, std::uint32_t wait_ms, v1::ApplyPolicyReply& reply)
        : parts_(parts), started_(parts.clock.monotonic()), patience_(std::min(wait_ms, max_wait_ms)), reply_(reply)
    {}

    // The version is what was asked for; answers that are `wanted` are answers to it.
    void finish(std::uint64_t version, const Distributor::Wanted& wanted)
    {
        reply_.set_version(version);
        if (const auto trial = parts_.book.trial(); trial && trial->version == version) {
            reply_.set_trial_until_us(trial->until_us);
            reply_.set_back_to(trial->back_to);
        }
        for (auto& result : parts_.distributor.wait_for_answers(wanted, patience_))
            *reply_.add_agents() = std::move(result);
        const auto elapsed = parts_.clock.monotonic() - started_;
        reply_.set_elapsed_us(static_cast<std::uint64_t>(duration_cast<microseconds>(elapsed).count()));
    }

private:
    const ApiParts& parts_;
    MonotonicTime started_;
    milliseconds patience_;
    v1::ApplyPolicyReply& reply_;
};

Distributor::Wanted at_least(std::uint64_t version)
{
    return [version](const v1::PolicyResult& result) { return result.policy_version() >= version; };
}

Status check_window(std::uint64_t confirm_ms)
{
    const milliseconds window(confirm_ms);
    if (window < min_confirm_window || window > max_confirm_window)
        return fail(ErrorKind::usage, "a confirm window is from 10s to 24h long");
    return {};
}

// What put_in_force() says in the reply; false: that was all, nothing was changed.
bool tell(const ApiParts& parts, Applied& applied, const std::string& act, const std::string& admin,
          v1::ApplyPolicyReply& reply)
{
    for (auto& diagnostic : applied.diagnostics)
        reply.add_diagnostics(std::move(diagnostic));
    if (!reply.diagnostics().empty())
        return false;
    reply.set_unchanged(applied.unchanged);
    if (!applied.unchanged) {
        parts.feed.notify();
        log_info("policy version {} {} by {}", applied.version, act, admin);
    }
    return true;
}

} // namespace

grpc::Status refused_act(const Error& error)
{
    const auto status = to_grpc(error);
    return error.kind == ErrorKind::refused ? grpc::Status(grpc::StatusCode::ABORTED, status.error_message()) : status;
}

grpc::Status apply_policy(const ApiParts& parts, const std::string& admin, const v1::ApplyPolicyRequest& request,
                          v1::ApplyPolicyReply& reply)
{
    if (request.files().empty())
        return {grpc::StatusCode::INVALID_ARGUMENT, "no policy file was given"};
    Application application;
    for (const auto& file : request.files())
        application.files.push_back({file.name(), file.text()});
    application.message = request.message();
    application.author = admin;
    application.force = request.force();
    if (request.confirm_ms() != 0) {
        if (const auto good = check_window(request.confirm_ms()); !good)
            return to_grpc(good.error());
        application.confirm_within = milliseconds(request.confirm_ms());
    }
    Rollout rollout(parts, request.wait_ms(), reply);
    auto applied = parts.book.apply(application);
    if (!applied)
        return refused_act(applied.error());
    if (tell(parts, *applied, "applied", admin, reply))
        rollout.finish(applied->version, at_least(applied->version));
    return grpc::Status::OK;
}

grpc::Status confirm_policy(const ApiParts& parts, const std::string& admin, const v1::ConfirmPolicyRequest& request,
                            v1::ApplyPolicyReply& reply)
{
    Rollout rollout(parts, request.wait_ms(), reply);
    const auto confirmed = parts.book.confirm(request.version(), admin);
    if (!confirmed)
        return refused_act(confirmed.error());
    parts.feed.notify();
    log_info("policy version {} confirmed by {}", *confirmed, admin);
    rollout.finish(*confirmed, [version = *confirmed](const v1::PolicyResult& result) {
        return result.policy_version() >= version && result.trial_left_ms() == 0;
    });
    return grpc::Status::OK;
}

grpc::Status roll_back_policy(const ApiParts& parts, const std::string& admin, const v1::RollbackPolicyRequest& request,
                              v1::ApplyPolicyReply& reply)
{
    Rollout rollout(parts, request.wait_ms(), reply);
    const auto before = parts.book.version();
    auto applied = parts.book.roll_back(request.version(), admin, request.message());
    if (!applied)
        return refused_act(applied.error());
    if (!tell(parts, *applied, "put in force again", admin, reply))
        return grpc::Status::OK;
    if (applied->version >= before)
        rollout.finish(applied->version, at_least(applied->version));
    else // a trial has ended
        rollout.finish(applied->version, [version = applied->version](const v1::PolicyResult& result) {
            return result.policy_version() == version && result.trial_left_ms() == 0;
        });
    return grpc::Status::OK;
}

grpc::Status list_policies(const ApiParts& parts, v1::PolicyList& reply)
{
    const auto all = parts.control.policies();
    if (!all)
        return to_grpc(all.error());
    for (const auto& policy : *all)
        *reply.add_editions() = describe(policy, parts.book.version());
    return grpc::Status::OK;
}

grpc::Status get_policy(const ApiParts& parts, const v1::GetPolicyRequest& request, v1::GetPolicyReply& reply)
{
    const auto in_force = parts.book.version();
    const auto version = request.version() != 0 ? request.version() : in_force;
    if (version == 0)
        return {grpc::StatusCode::NOT_FOUND, "no policy has been applied yet"};
    auto found = parts.control.policy(version);
    if (!found)
        return to_grpc(found.error());
    if (!*found)
        return {grpc::StatusCode::NOT_FOUND, fmt::format("there is no policy version {}", version)};
    auto& policy = **found;
    reply.set_version(policy.version);
    reply.set_created_us(policy.created_us);
    reply.set_author(policy.author);
    reply.set_message(policy.message);
    *reply.mutable_edition() = describe(policy, in_force);
    for (auto& source : policy.files) {
        auto& file = *reply.add_files();
        file.set_name(std::move(source.name));
        file.set_text(std::move(source.text));
    }
    return grpc::Status::OK;
}

} // namespace bulkhead::controller
