// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/agent.h"

#include "agent/daemon/signed_update.h"
#include "common/core/log.h"
#include "common/core/version.h"

#include <algorithm>

namespace bulkhead::agent {

v1::Hello Agent::hello()
{
    return loop_->call([this] { return say_hello(); }).value_or(v1::Hello{});
}

v1::HostStatus Agent::status()
{
    return loop_
        ->call([this] {
            v1::HostStatus status;
            for (const auto& address : host_.addresses())
                status.add_addresses(wire::to_wire(address));
            status.set_records_spooled(spool_->next_seq() - 1 - spool_->acknowledged());
            status.set_records_lost(spool_->lost());
            *status.mutable_standing() = standing();
            return status;
        })
        .value_or(v1::HostStatus{});
}

std::optional<v1::PolicyResult> Agent::on_update(const v1::PolicyUpdate& update)
{
    return loop_->call([this, &update] { return realise_update(update); });
}

void Agent::on_identity(const std::string& agent_id, const std::string& authority_pem, bool enrolled_now)
{
    loop_->post([this, agent_id, authority_pem, enrolled_now] {
        agent_id_ = agent_id;
        authority_pem_ = authority_pem;
        refresh_host();
        if (enrolled_now)
            records_->audit("agent.enrol", config_.controller, "enrolled as " + agent_id);
    });
}

void Agent::on_connected(bool connected)
{
    loop_->post([this, connected] {
        if (!connected)
            log_info("without the controller: the policy stays in force, records are kept on disk");
    });
}

void Agent::on_enrolment_refused(const Error& error)
{
    loop_->post([this, error] {
        const auto why =
            fmt::format("the controller {} refuses to enrol this host: {}", config_.controller, error.message);
        log_error("{}", why);
        if (enforcer_->plane_in_force()) { // which needs somebody to look after it
            uplink_error_ = why + " (mend: start this agent with a new token)";
            return;
        }
        fatal_ = error;
        loop_->stop();
    });
}

v1::Hello Agent::say_hello()
{
    v1::Hello hello;
    hello.set_hostname(hostname_);
    hello.mutable_labels()->insert(config_.labels.begin(), config_.labels.end());
    for (const auto& address : host_.addresses())
        hello.add_addresses(wire::to_wire(address));
    hello.set_agent_version(BULKHEAD_VERSION);
    hello.set_kernel_release(kernel_release());
    hello.set_boot_id(boot_id_);
    if (enforcer_->has_policy() && enforcer_->source() == PolicySource::controller) {
        hello.set_generation(enforcer_->state().generation);
        hello.set_policy_version(enforcer_->state().policy_version);
    }
    *hello.mutable_standing() = standing();
    return hello;
}

v1::Standing Agent::standing() const
{
    v1::Standing standing;
    if (enforcer_->has_policy() && enforcer_->source() == PolicySource::controller) {
        standing.set_generation(enforcer_->state().generation);
        standing.set_policy_version(enforcer_->state().policy_version);
        standing.set_confirmed_version(enforcer_->confirmed_version());
    }
    standing.set_trial_left_ms(trial_left_ms());
    standing.set_lapsed_version(enforcer_->lapsed_version());
    standing.set_quarantined(enforcer_->quarantined());
    const auto tell = [](const std::optional<QuarantineHold>& hold, auto mutable_message) {
        if (!hold)
            return;
        v1::Quarantine& message = *mutable_message();
        message.set_by(hold->by);
        message.set_reason(hold->reason);
        message.set_since_us(hold->since_us);
        message.set_until_us(hold->until_us);
    };
    tell(enforcer_->quarantine().local, [&] { return standing.mutable_local_quarantine(); });
    tell(enforcer_->quarantine().controller, [&] { return standing.mutable_controller_quarantine(); });
    return standing;
}

// At least 1 while there is a trial.
std::uint64_t Agent::trial_left_ms() const
{
    const auto until = enforcer_->trial_until();
    if (!until)
        return 0;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*until - clock_.monotonic());
    return static_cast<std::uint64_t>(std::max<std::int64_t>(left.count(), 1));
}

v1::PolicyResult Agent::realise_update(const v1::PolicyUpdate& update)
{
    const auto begun = clock_.monotonic();
    v1::PolicyResult result;
    result.set_generation(update.generation());
    result.set_policy_version(update.policy_version());
    const bool ours = enforcer_->has_policy() && enforcer_->source() == PolicySource::controller;
    auto next = apply_signed_update(ours ? enforcer_->state() : wire::HostState{}, update, authority_pem_);
    const auto version_before = ours ? enforcer_->state().policy_version : 0;
    const bool trial_before = enforcer_->trial_until().has_value();
    if (!next && next.error().kind == ErrorKind::failed) { // a gap, no fault of the policy's
        log_info("asking the controller for everything: {}", next.error().message);
        result.set_need_snapshot(true);
        return result;
    }
    const auto put_in_force = [&](wire::HostState state) {
        return update.trial_ms() == 0
                   ? enforcer_->enforce(std::move(state), PolicySource::controller, update.signature())
                   : enforcer_->try_out(std::move(state), PolicySource::controller,
                                        std::chrono::milliseconds(update.trial_ms()), update.signature());
    };
    const auto enforced = next ? put_in_force(std::move(*next)) : Status(tl::unexpected(next.error()));
    if (!enforced) {
        refuse(enforced.error(), config_.controller, true);
        result.set_refusal(enforced.error().message);
        return result;
    }
    const auto took = clock_.monotonic() - begun;
    result.set_enforced(true);
    result.set_realise_us(
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
    result.set_trial_left_ms(trial_left_ms());
    refresh_host();
    tell_update(update, version_before, trial_before, took);
    return result;
}

void Agent::tell_update(const v1::PolicyUpdate& update, std::uint64_t version_before, bool trial_before,
                        std::chrono::nanoseconds took)
{
    const auto version = update.policy_version();
    const bool on_trial = enforcer_->trial_until().has_value();
    if (version == version_before && trial_before && !on_trial) {
        records_->audit("policy.confirm", config_.controller, fmt::format("version {}", version));
        return;
    }
    if (version == version_before)
        return;
    const auto words = on_trial ? fmt::format("version {}, on trial for {:.1f} s", version,
                                              static_cast<double>(trial_left_ms()) / 1000)
                                : fmt::format("version {}", version);
    log_info("policy {} of {} is in force ({:.1f} ms)", words, config_.controller,
             std::chrono::duration<double, std::milli>(took).count());
    if (trial_before && !on_trial && version < version_before)
        records_->audit("policy.rollback", fmt::format("version {}", version_before),
                        fmt::format("back to version {}", version));
    else
        records_->audit("policy.enforce", config_.controller, words);
}

std::optional<v1::PolicyResult> Agent::on_confirm(const v1::Confirm& confirm)
{
    return loop_->call([this, &confirm] { return confirm_trial(confirm); });
}

v1::PolicyResult Agent::confirm_trial(const v1::Confirm& confirm)
{
    v1::PolicyResult result;
    result.set_generation(confirm.generation());
    result.set_policy_version(confirm.policy_version());
    const bool trial_before = enforcer_->trial_until().has_value();
    if (const auto confirmed = enforcer_->confirm(confirm.policy_version()); !confirmed) {
        log_warning("policy version {} is not confirmed: {}", confirm.policy_version(), confirmed.error().message);
        result.set_refusal(confirmed.error().message);
        return result;
    }
    result.set_enforced(true);
    if (trial_before) {
        log_info("policy version {} is confirmed", confirm.policy_version());
        records_->audit("policy.confirm", config_.controller, fmt::format("version {}", confirm.policy_version()));
    }
    return result;
}

void Agent::on_quarantine(const v1::QuarantineOrder& order)
{
    loop_->post([this, order] {
        auto next = enforcer_->quarantine();
        next.controller.reset();
        if (order.on())
            next.controller = new_hold(order.by(), order.reason(), order.left_ms(), enforcer_->quarantine().controller);
        if (const auto done = set_quarantine(std::move(next)); !done)
            log_error("the quarantine cannot be changed yet: {}", done.error().message);
        if (uplink_)
            uplink_->report_soon();
    });
}

} // namespace bulkhead::agent
