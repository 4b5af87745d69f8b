// SPDX-License-Identifier: Apache-2.0
// A policy on trial: in force until its deadline, which the kernel keeps. What is here brings the rest in line.
#include "agent/daemon/enforcer.h"

#include "agent/daemon/policy_view.h"
#include "common/core/log.h"

#include <algorithm>

namespace bulkhead::agent {

std::optional<MonotonicTime> Enforcer::trial_until() const
{
    return trial_ ? trial_->until : std::nullopt;
}

Status Enforcer::try_out(wire::HostState next, PolicySource source, std::chrono::nanoseconds window,
                         std::string signature)
{
    look_at_trial();
    auto done = begin_trial(std::move(next), source, window, std::move(signature));
    refusal_ = done ? std::string() : done.error().message;
    return done;
}

Status Enforcer::begin_trial(wire::HostState next, PolicySource source, std::chrono::nanoseconds window,
                             std::string signature)
{
    if (!trial_ && lapsed_version_ != 0 && next.policy_version == lapsed_version_)
        return fail(ErrorKind::refused, "the trial of policy version {} is over on this host", lapsed_version_);
    const bool goes_on = trial_ && trial_->state.policy_version == next.policy_version;
    if (goes_on && same_meaning(next, trial_->state))
        return relabel(*trial_, std::move(next), source, std::move(signature));
    auto until = clock_.monotonic() + window;
    if (goes_on)
        until = std::min(until, *trial_->until);
    return realise({std::move(next), source, std::move(signature), failsafes_, until});
}

Status Enforcer::confirm(std::uint64_t policy_version)
{
    look_at_trial();
    if (trial_ && trial_->state.policy_version == policy_version)
        return keep_trial();
    if (!trial_ && confirmed_version() == policy_version)
        return {};
    return fail(ErrorKind::refused, "policy version {} is not on trial on this host", policy_version);
}

Status Enforcer::keep_trial()
{
    if (!quarantined_)
        BULKHEAD_CHECK(datapath_.confirm());
    confirmed_ = std::exchange(trial_, std::nullopt);
    confirmed_->until.reset();
    forget_facets();
    if (!stores_.policy.confirm_trial()) // it could not be saved when it began
        commit(*confirmed_, save(*confirmed_, confirmed_->view->generation));
    return {};
}

Status Enforcer::roll_back()
{
    look_at_trial();
    if (!trial_)
        return fail(ErrorKind::refused, "no policy is on trial on this host");
    return end_trial();
}

// Until the kernel has gone back, the trial stays; what fails after that is mended by ticks.
Status Enforcer::end_trial()
{
    if (!quarantined_ && datapath_.trial().phase != TrialState::Phase::none)
        BULKHEAD_CHECK(datapath_.fall_back());
    stores_.policy.drop_trial();
    trial_.reset();
    if (quarantined_)
        return {};
    forget_facets();
    realised_offset_ = std::exchange(fallback_offset_, {});
    show(fallback_view());
    if (confirmed_ && confirmed_->failsafes != failsafes_) {
        if (const auto done = realise_again(*confirmed_); !done)
            log_error("the failsafes cannot be changed: {}", done.error().message);
        return {};
    }
    refresh_facets(patience_at_switch);
    judge_sessions();
    return {};
}

// After a trial, however it ended, the processes of the policy that stays are told anew, not compared with what the
// kernel should have.
void Enforcer::forget_facets()
{
    facets_.reset();
    fallback_facets_.reset();
}

void Enforcer::look_at_trial()
{
    if (!trial_ || clock_.monotonic() < *trial_->until)
        return;
    const auto version = trial_->state.policy_version;
    log_once(end_trial(), trial_error_, "a trial is over and cannot be put away");
    if (!trial_)
        tell_lapse(version, "it was not confirmed in time");
}

void Enforcer::tell_lapse(std::uint64_t version, std::string why)
{
    log_warning("the trial of policy version {} is over, {}: version {} is in force again", version, why,
                confirmed_version());
    lapsed_version_ = version;
    hooks_.on_lapse({version, confirmed_version(), std::move(why)});
}

std::shared_ptr<const PolicyView> Enforcer::fallback_view() const
{
    return confirmed_ ? confirmed_->view : unknown_view_;
}

} // namespace bulkhead::agent
