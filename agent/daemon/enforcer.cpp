// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/enforcer.h"

#include "agent/daemon/policy_view.h"
#include "common/core/log.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <tuple>

namespace bulkhead::agent {
namespace {

constexpr unsigned save_again_ticks = 5;
constexpr std::chrono::seconds clock_may_differ{1};
constexpr std::chrono::seconds clock_again_after{30};
constexpr std::chrono::milliseconds patience_at_tick{200}; // for digests: nobody is kept waiting every second

bool same_facets(const FacetTable& a, const FacetTable& b)
{
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const FacetRow& x, const FacetRow& y) {
        return std::memcmp(&x.key, &y.key, sizeof x.key) == 0 &&
               std::memcmp(&x.classes, &y.classes, sizeof x.classes) == 0;
    });
}

// Both are sorted, by key.
FacetTable rows_that_go(const FacetTable& before, const FacetTable& now)
{
    FacetTable rows;
    std::set_difference(
        before.begin(), before.end(), now.begin(), now.end(), std::back_inserter(rows),
        [](const FacetRow& x, const FacetRow& y) {
            const auto order = [](const bh_facet_key& key) { return std::tie(key.facet, key.device, key.value); };
            return order(x.key) != order(y.key) ? order(x.key) < order(y.key)
                                                : std::memcmp(&x.classes, &y.classes, sizeof x.classes) < 0;
        });
    return rows;
}

} // namespace

Enforcer::Enforcer(Datapath& datapath, SubjectResolver& subjects, SessionKeeper& sessions, Stores stores,
                   const Clock& clock, std::string boot_id, Hooks hooks)
    : datapath_(datapath), subjects_(subjects), sessions_(sessions), stores_(stores), clock_(clock),
      boot_id_(std::move(boot_id)), hooks_(std::move(hooks))
{}

// Says a lasting trouble once, and again when it changes.
void Enforcer::log_once(const Status& status, std::string& last, const char* what)
{
    const std::string now = status ? std::string() : status.error().message;
    if (!now.empty() && now != last)
        log_warning("{}: {}", what, now);
    last = now;
}

bool Enforcer::plane_in_force() const
{
    const auto control = datapath_.control();
    return control.active_slot != BH_SLOT_NONE || control.shadow_slot != BH_SLOT_NONE || datapath_.pending_takeover();
}

Status Enforcer::enforce(wire::HostState next, PolicySource source, std::string signature)
{
    look_at_trial();
    auto done = enforce_for_good(std::move(next), source, std::move(signature));
    refusal_ = done ? std::string() : done.error().message;
    if (done)
        damage_.clear();
    return done;
}

Status Enforcer::enforce_for_good(wire::HostState next, PolicySource source, std::string signature)
{
    if (trial_ && next.policy_version == trial_->state.policy_version && same_meaning(next, trial_->state)) {
        if (keep_trial())
            return relabel(*confirmed_, std::move(next), source, std::move(signature));
        look_at_trial(); // its time was over this very moment
    }
    if (trial_ && confirmed_ && same_meaning(next, confirmed_->state))
        BULKHEAD_CHECK(end_trial());
    if (!trial_ && confirmed_ && same_meaning(next, confirmed_->state))
        return relabel(*confirmed_, std::move(next), source, std::move(signature));
    return realise({std::move(next), source, std::move(signature), failsafes_, std::nullopt});
}

Status Enforcer::set_failsafes(std::vector<policy::HostRule> failsafes)
{
    if (failsafes == failsafes_)
        return {};
    auto before = std::exchange(failsafes_, std::move(failsafes));
    if (!quarantined_ && !has_policy())
        return {};
    log_info("the failsafes have changed");
    auto done = quarantined_ ? engage() : realise_again(*standing());
    if (!done)
        failsafes_ = std::move(before);
    return done;
}

// With the failsafes of now.
Status Enforcer::realise_again(const Standing& what)
{
    return realise({what.state, what.source, what.signature, failsafes_, what.until});
}

Status Enforcer::realise(Standing next)
{
    BULKHEAD_TRY(auto view, build_view(next.state, next.failsafes));
    if (quarantined_) { // kept for the time after it
        next.view = std::move(view);
        const bool prepared = save(next, 0);
        take_over(std::move(next), prepared);
        return {};
    }
    BULKHEAD_TRY(const bool prepared, switch_to(std::move(view), next));
    take_over(std::move(next), prepared);
    judge_sessions();
    return {};
}

// From building the planes to the view of `next`; true when it is prepared on disk, too.
Result<bool> Enforcer::switch_to(std::shared_ptr<PolicyView> view, Standing& next)
{
    auto facets = subjects_.resolve(view->policy.processes, patience_at_switch);
    auto unmatched = subjects_.unmatched();
    view->generation = datapath_.next_generation();
    if (next.until)
        view->fallback = fallback_view();
    bool prepared = save(next, view->generation);
    const auto before = view_;
    show(view);
    const auto begun = clock_.monotonic();
    const auto offset = clock_offset();
    const auto switched = datapath_.realise({&view->active, &view->shadow, facets, 0, next.until});
    if (!switched) {
        stores_.policy.discard();
        show(before);
        return tl::unexpected(switched.error());
    }
    realise_time_ = clock_.monotonic() - begun;
    enforced_since_ = clock_.wall();
    if (*switched != view->generation) {
        view = std::make_shared<PolicyView>(*view);
        view->generation = *switched;
        show(view);
        prepared = save(next, *switched);
    }
    if (!next.until) {
        fallback_facets_.reset();
        fallback_offset_.reset();
    } else if (!trial_) {
        fallback_facets_ = std::move(facets_);
        fallback_offset_ = realised_offset_;
    }
    facets_ = std::move(facets);
    realised_offset_ = offset;
    expiry_ = next_expiry();
    for (const auto& condition : unmatched)
        if (std::find(unmatched_.begin(), unmatched_.end(), condition) == unmatched_.end())
            log_info("processes that the policy names: {}", condition);
    unmatched_ = std::move(unmatched);
    next.view = std::move(view);
    return prepared;
}

void Enforcer::take_over(Standing next, bool prepared)
{
    commit(next, prepared);
    if (next.until) {
        trial_ = std::move(next);
        return;
    }
    if (trial_)
        stores_.policy.drop_trial();
    trial_.reset();
    confirmed_ = std::move(next);
}

// Another version of the policy that means the same on this host: the records name it, the kernel need not know.
Status Enforcer::relabel(Standing& standing, wire::HostState next, PolicySource source, std::string signature)
{
    if (next == standing.state && source == standing.source && signature == standing.signature)
        return {};
    if (next.policy_version != standing.view->policy_version) {
        auto view = std::make_shared<PolicyView>(*standing.view);
        view->policy_version = next.policy_version;
        const bool shown = view_ == standing.view;
        standing.view = std::move(view);
        if (shown)
            show(standing.view);
    }
    standing.state = std::move(next);
    standing.source = source;
    standing.signature = std::move(signature);
    commit(standing, save(standing, standing.view->generation));
    return {};
}

void Enforcer::tick()
{
    look_at_quarantine();
    look_at_trial();
    follow_clock();
    look_at_expiries();
    save_late();
    refresh_facets(patience_at_tick);
    if (const auto ended = sessions_.tick(); !ended)
        log_once(tl::unexpected(ended.error()), session_error_, "cannot end drained sessions");
}

void Enforcer::judge_newcomers(std::span<const std::uint32_t> namespaces)
{
    if (namespaces.empty())
        return;
    if (const auto ended = sessions_.came(namespaces); !ended)
        log_once(tl::unexpected(ended.error()), session_error_,
                 "sessions of a new network namespace are not judged yet");
}

void Enforcer::refresh_facets(std::chrono::milliseconds patience)
{
    if (!has_policy() || quarantined_)
        return;
    const auto resolve = [&](const Standing& policy) {
        return subjects_.resolve(policy.view->policy.processes, patience);
    };
    const auto told = tell_facets(*standing(), facets_, resolve(*standing()));
    unmatched_ = subjects_.unmatched();
    log_once(told, facet_error_, "cannot update process facets");
    if (!trial_ || !confirmed_)
        return;
    // The kernel may go back at any moment, and then it must know the processes of now.
    log_once(tell_facets(*confirmed_, fallback_facets_, resolve(*confirmed_)), fallback_facet_error_,
             "cannot update process facets of the confirmed policy");
}

// What fails is told, and mended, at the next tick.
void Enforcer::look_at_cgroups()
{
    if (!has_policy() || quarantined_)
        return;
    (void)tell_cgroups(*standing(), facets_);
    if (trial_ && confirmed_)
        (void)tell_cgroups(*confirmed_, fallback_facets_);
}

Status Enforcer::tell_cgroups(const Standing& policy, std::optional<FacetTable>& told)
{
    if (!told)
        return {};
    return tell_facets(policy, told, subjects_.with_cgroups_of_now(policy.view->policy.processes, *told));
}

// To look processes up takes a while, in which a trial may end: the rows are for that policy's planes and no others.
Status Enforcer::tell_facets(const Standing& policy, std::optional<FacetTable>& told, FacetTable of_now)
{
    if (told && same_facets(of_now, *told))
        return {};
    if (told)
        if (const auto rows = rows_that_go(*told, of_now); !rows.empty())
            hooks_.before_rows_go(rows);
    told.reset(); // what fails may have written some of them
    BULKHEAD_CHECK(datapath_.update_facets(policy.view->generation, of_now));
    told = std::move(of_now);
    return {};
}

void Enforcer::judge_sessions()
{
    if (const auto forbidden = sessions_.after_switch(view_->policy.sessions); !forbidden)
        log_warning("live sessions could not be judged again: {}", forbidden.error().message);
}

void Enforcer::show(std::shared_ptr<const PolicyView> view)
{
    view_ = std::move(view);
    expiry_ = next_expiry();
    hooks_.on_view(view_);
}

std::optional<WallTime> Enforcer::next_expiry() const
{
    std::optional<WallTime> next;
    for (const auto& rule : view_->policy.rules)
        if (rule.expires && *rule.expires > kernels_wall_time() && (!next || *rule.expires < *next))
            next = rule.expires;
    return next;
}

std::chrono::nanoseconds Enforcer::clock_offset() const
{
    return clock_.wall().time_since_epoch() - clock_.monotonic();
}

// The kernel's programs know no wall clock: what time it is for the rules in force.
WallTime Enforcer::kernels_wall_time() const
{
    return realised_offset_ ? WallTime(clock_.monotonic() + *realised_offset_) : clock_.wall();
}

// The time was set, or the host has slept: rules are to end by the time of now. After a start it is not known by which
// they end.
void Enforcer::follow_clock()
{
    if (!has_policy() || quarantined_ || clock_.monotonic() < clock_again_)
        return;
    const auto& rules = view_->policy.rules;
    if (std::none_of(rules.begin(), rules.end(), [](const auto& rule) { return rule.expires.has_value(); }))
        return;
    if (realised_offset_ && std::chrono::abs(clock_offset() - *realised_offset_) <= clock_may_differ)
        return;
    if (realised_offset_)
        log_info("the time has changed by {} s: rules that expire end by it",
                 std::chrono::round<std::chrono::seconds>(clock_offset() - *realised_offset_).count());
    const auto done = realise_again(*standing());
    log_once(done, clock_error_, "rules that expire cannot be told of the time that was set");
    if (!done)
        clock_again_ = clock_.monotonic() + clock_again_after;
}

// The kernel ends rules on time for what is new; what is open is judged as after a change of policy.
void Enforcer::look_at_expiries()
{
    if (!expiry_ || kernels_wall_time() < *expiry_)
        return;
    expiry_ = next_expiry();
    judge_sessions();
}

Status Enforcer::prepare(const Standing& standing, std::uint32_t kernel_generation)
{
    return stores_.policy.prepare({standing.source, kernel_generation, boot_id_, standing.state, standing.signature,
                                   standing.failsafes, standing.until});
}

// A full disk must not keep a policy from being enforced; it only cannot be known after a reboot then.
bool Enforcer::save(const Standing& standing, std::uint32_t kernel_generation)
{
    const auto prepared = prepare(standing, kernel_generation);
    if (!prepared)
        log_error("policy version {} cannot be saved, so a reboot would bring back an older one: {}",
                  standing.state.policy_version, prepared.error().message);
    return prepared.has_value();
}

void Enforcer::commit(const Standing& standing, bool prepared)
{
    if (!standing.until)
        unsaved_ = !prepared;
    else if (!prepared)
        stores_.policy.drop_trial(); // that of another trial
    if (!prepared)
        return;
    const auto committed = standing.until ? stores_.policy.commit_trial() : stores_.policy.commit();
    if (committed)
        return;
    log_error("the saved policy cannot be put in its place: {}", committed.error().message);
    unsaved_ = !standing.until;
}

void Enforcer::save_late()
{
    if (!unsaved_ || !confirmed_ || ++ticks_unsaved_ % save_again_ticks != 0)
        return;
    if (!prepare(*confirmed_, confirmed_->view->generation))
        return;
    commit(*confirmed_, true);
    if (!unsaved_)
        log_info("policy version {} is saved now", confirmed_->state.policy_version);
}

} // namespace bulkhead::agent
