// SPDX-License-Identifier: Apache-2.0
// Quarantine: planes that hold nothing but the failsafes, whatever the policy.
#include "agent/daemon/enforcer.h"

#include "agent/daemon/policy_view.h"
#include "common/core/log.h"

namespace bulkhead::agent {
namespace {

// The words (who has which address) stay those of the policy.
wire::HostState cut_off(wire::HostState state)
{
    policy::HostPolicy nothing_but_failsafes;
    nothing_but_failsafes.segments = std::move(state.policy.segments);
    for (auto& plane : nothing_but_failsafes.defaults)
        for (auto& direction : plane)
            direction.action = policy::Action::deny;
    nothing_but_failsafes.sessions.kind = policy::Sessions::Kind::cut;
    state.policy = std::move(nothing_but_failsafes);
    return state;
}

bool is_over(const std::optional<QuarantineHold>& hold, std::int64_t now_us)
{
    return hold && hold->until_us != 0 && now_us >= hold->until_us;
}

} // namespace

Status Enforcer::set_quarantine(Quarantine quarantine)
{
    if (quarantine == quarantine_ && quarantine.stands() == quarantined_)
        return {};
    quarantine_ = std::move(quarantine);
    // On disk from before it begins until after it has ended, so that a crash in between never lifts it.
    if (quarantine_.stands())
        if (const auto saved = stores_.quarantine.save(quarantine_); !saved)
            log_error("the quarantine cannot be saved, and a reboot would lift it: {}", saved.error().message);
    if (quarantine_.stands() == quarantined_)
        return {};
    if (quarantine_.stands())
        return engage();
    BULKHEAD_CHECK(disengage());
    if (const auto removed = stores_.quarantine.save({}); !removed)
        log_error("a reboot would bring back the quarantine: {}", removed.error().message);
    return {};
}

Status Enforcer::engage()
{
    BULKHEAD_TRY(auto view, build_view(cut_off(state()), failsafes_));
    view->generation = datapath_.next_generation();
    const auto before = view_;
    show(view);
    const auto switched = datapath_.realise({&view->active, &view->shadow, {}, BH_CONTROL_QUARANTINE, std::nullopt});
    if (!switched) {
        show(before);
        return tl::unexpected(switched.error());
    }
    quarantined_ = true;
    forget_facets();
    unmatched_.clear();
    unknown_view_ = empty_view(0); // planes without words are gone
    judge_sessions();
    return {};
}

// What would be in force without it is in force again: the confirmed policy, and on it the trial whose time is not
// over.
Status Enforcer::disengage()
{
    look_at_trial();
    quarantined_ = false;
    auto trial = std::exchange(trial_, std::nullopt);
    Status done;
    if (confirmed_)
        done = realise_again(*confirmed_);
    else if (done = datapath_.clear(); done)
        show(unknown_view_ = empty_view(datapath_.control().generation));
    if (!done) {
        quarantined_ = true;
        trial_ = std::move(trial);
        return done;
    }
    if (!trial)
        return {};
    if (const auto again = realise_again(*trial); !again) {
        stores_.policy.drop_trial();
        tell_lapse(trial->state.policy_version, again.error().message);
    }
    return {};
}

void Enforcer::look_at_quarantine()
{
    const auto now_us = std::chrono::duration_cast<std::chrono::microseconds>(clock_.wall().time_since_epoch()).count();
    auto next = quarantine_;
    std::optional<QuarantineHold> over;
    for (auto* hold : {&next.local, &next.controller})
        if (is_over(*hold, now_us))
            over = std::exchange(*hold, std::nullopt);
    log_once(set_quarantine(std::move(next)), quarantine_error_, "the quarantine cannot be changed");
    if (over)
        hooks_.on_quarantine_over(*over);
}

} // namespace bulkhead::agent
