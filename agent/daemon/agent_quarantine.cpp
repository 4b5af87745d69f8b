// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/agent.h"

#include "common/core/log.h"

namespace bulkhead::agent {

// A hold that is told again, by an order after a reconnect, has begun when it began.
QuarantineHold Agent::new_hold(const std::string& by, const std::string& reason, std::uint64_t left_ms,
                               const std::optional<QuarantineHold>& before) const
{
    const auto now = std::chrono::duration_cast<std::chrono::microseconds>(clock_.wall().time_since_epoch());
    QuarantineHold hold{by, reason, now.count(), 0};
    if (before && before->by == by && before->reason == reason)
        hold.since_us = before->since_us;
    if (left_ms != 0)
        hold.until_us = (now + std::chrono::milliseconds(left_ms)).count();
    return hold;
}

Status Agent::set_quarantine(Quarantine next)
{
    const bool before = enforcer_->quarantine().stands();
    const auto held_by = before ? enforcer_->quarantine().hold().by : std::string();
    const auto done = enforcer_->set_quarantine(std::move(next));
    const auto& now = enforcer_->quarantine();
    if (before == now.stands())
        return done;
    if (now.stands()) {
        log_warning("quarantine by {}: only failsafes pass from now on", now.hold().by);
        records_->audit("quarantine.begin", hostname_, fmt::format("by {}: {}", now.hold().by, now.hold().reason));
    } else {
        log_info("the quarantine is over");
        records_->audit("quarantine.end", hostname_, "released; it was by " + held_by);
    }
    return done;
}

Result<v1::LocalStatus> Agent::set_local_quarantine(const v1::LocalQuarantine& wish)
{
    auto next = enforcer_->quarantine();
    if (wish.on()) {
        next.local = new_hold("root on " + hostname_, wish.reason(), wish.for_ms(), next.local);
    } else {
        if (next.controller && !wish.force()) {
            auto refused =
                fail(ErrorKind::refused, "the controller holds this host in quarantine, by {}", next.controller->by);
            refused.value().mend = "release it there, or here with --force for as long as the controller is away";
            return refused;
        }
        next = {};
    }
    BULKHEAD_CHECK(set_quarantine(std::move(next)));
    if (uplink_)
        uplink_->report_soon();
    return local_status();
}

} // namespace bulkhead::agent
