// SPDX-License-Identifier: Apache-2.0
// The start: what the kernel enforces already, what was saved of it, and how the two meet.
#include "agent/daemon/enforcer.h"

#include "agent/daemon/policy_view.h"
#include "common/core/log.h"

#include <algorithm>
#include <tuple>

namespace bulkhead::agent {
namespace {

// Adds the rules of `from` whose id is in `ids` and of which `rules` has none.
void inherit(std::vector<policy::HostRule>& rules, const std::vector<policy::HostRule>& from,
             const std::vector<std::string>& ids)
{
    std::vector<policy::HostRule> additions;
    for (const auto& rule : from) {
        const bool wanted = std::find(ids.begin(), ids.end(), rule.id) != ids.end();
        const bool present = std::any_of(rules.begin(), rules.end(), [&](const auto& r) { return r.id == rule.id; });
        if (wanted && !present)
            additions.push_back(rule);
    }
    rules.insert(rules.end(), additions.begin(), additions.end());
    std::sort(rules.begin(), rules.end(),
              [](const auto& a, const auto& b) { return std::tie(a.id, a.direction) < std::tie(b.id, b.direction); });
}

} // namespace

std::shared_ptr<const PolicyView> Enforcer::empty_view(std::uint32_t generation) const
{
    auto view = std::make_shared<PolicyView>();
    view->generation = generation;
    return view;
}

bool Enforcer::describes(const std::optional<SavedPolicy>& saved, std::uint32_t generation) const
{
    return saved && saved->boot_id == boot_id_ && saved->kernel_generation == generation;
}

Status Enforcer::resume(std::vector<policy::HostRule> failsafes, const std::vector<std::string>& inherited)
{
    if (datapath_.trial().phase == TrialState::Phase::lapsed)
        log_once(datapath_.fall_back(), trial_error_, "a trial is over and cannot be put away");
    unknown_view_ = empty_view(datapath_.control().generation);
    show(unknown_view_); // until it is known better
    BULKHEAD_TRY(auto loaded, stores_.policy.load());
    for (const auto& line : loaded.damage)
        tell_damage(line);
    load_quarantine();
    // Listeners older than the programs are in no table yet, and inbound rules look them up.
    if (auto sockets = datapath_.walk_sockets(); sockets)
        log_once(datapath_.adopt_listeners(*sockets), session_error_, "cannot adopt listeners");
    else
        log_warning("cannot walk sockets: {}", sockets.error().message);

    Inheritance inheritance{std::move(failsafes), inherited};
    if (quarantine_.stands())
        return resume_quarantined(loaded, std::move(inheritance));
    const bool adopted = plane_in_force() && !datapath_.pending_takeover();
    return adopted ? resume_pinned(loaded, std::move(inheritance)) : resume_unplugged(loaded, std::move(inheritance));
}

void Enforcer::tell_damage(const std::string& what)
{
    log_error("{}", what);
    damage_.push_back(what);
}

// The file is there only while a quarantine stands, so one that is damaged says that it does.
void Enforcer::load_quarantine()
{
    auto loaded = stores_.quarantine.load();
    bool stood = datapath_.in_quarantine();
    if (loaded) {
        quarantine_ = std::move(*loaded);
    } else {
        tell_damage(loaded.error().message);
        stood = stood || loaded.error().kind == ErrorKind::invalid;
    }
    if (!stood || quarantine_.stands())
        return;
    const auto now = std::chrono::duration_cast<std::chrono::microseconds>(clock_.wall().time_since_epoch());
    quarantine_.local = {"bulkheadd", "in quarantine before, and what was saved of it is lost", now.count(), 0};
    if (const auto saved = stores_.quarantine.save(quarantine_); !saved)
        log_error("the quarantine cannot be saved, and a reboot would lift it: {}", saved.error().message);
}

// What was saved before the current policy, for want of that.
std::optional<SavedPolicy> Enforcer::policy_before()
{
    std::vector<std::string> damage;
    auto previous = stores_.policy.load_previous(damage);
    for (const auto& line : damage)
        tell_damage(line);
    return previous;
}

// The last one that was good is better than none, and worse than what programs of another version enforce.
Status Enforcer::realise_policy_before(Status current, const Inheritance& inheritance)
{
    if (plane_in_force())
        return current;
    auto previous = policy_before();
    if (!previous)
        return current;
    const auto version = previous->state.policy_version;
    BULKHEAD_CHECK(realise_saved(std::move(*previous), inheritance));
    tell_damage(fmt::format("{}: version {}, the one before it, is enforced until a newer one comes",
                            current ? "the saved policy is lost" : current.error().message, version));
    return {};
}

Status Enforcer::realise_saved(SavedPolicy saved, const Inheritance& inheritance)
{
    failsafes_ = inheritance.failsafes;
    inherit(failsafes_, saved.failsafes, inheritance.inherited);
    log_info("enforcing the policy that was saved: version {}", saved.state.policy_version);
    return realise({std::move(saved.state), saved.source, std::move(saved.signature), failsafes_, std::nullopt});
}

// Makes that one the current one: an agent that was killed had no time to.
bool Enforcer::find_enforced(PolicyState::Loaded& loaded, std::uint32_t generation)
{
    const auto put_in_place = [&](std::optional<SavedPolicy>& saved, const Status& renamed) {
        log_once(renamed, trial_error_, "the saved policy cannot be put in its place");
        loaded.current = std::exchange(saved, std::nullopt);
        loaded.current->until.reset();
    };
    if (describes(loaded.next, generation))
        put_in_place(loaded.next, stores_.policy.commit());
    else if (describes(loaded.trial, generation))
        put_in_place(loaded.trial, stores_.policy.confirm_trial());
    return describes(loaded.current, generation);
}

// No plane of ours is in force: a boot, the programs were taken away, or those of another version go on until the
// policy is realised beside them.
Status Enforcer::resume_unplugged(PolicyState::Loaded& loaded, Inheritance inheritance)
{
    failsafes_ = inheritance.failsafes;
    if (const auto theirs = datapath_.pending_generation(); theirs && !find_enforced(loaded, *theirs)) {
        log_warning("the other version enforces generation {}, of which nothing is saved: it goes on until the next "
                    "policy, since what is saved may be older",
                    *theirs);
        if (loaded.trial)
            drop_unplugged_trial(*loaded.trial);
        return {};
    }
    Status done = loaded.current ? realise_saved(std::move(*loaded.current), inheritance) : Status{};
    if (!loaded.current || !done)
        done = realise_policy_before(std::move(done), inheritance);
    if (loaded.trial)
        drop_unplugged_trial(*loaded.trial);
    return done;
}

void Enforcer::drop_unplugged_trial(const SavedPolicy& trial)
{
    stores_.policy.drop_trial();
    tell_lapse(trial.state.policy_version, "the host or its programs were started anew");
}

Status Enforcer::resume_pinned(PolicyState::Loaded& loaded, Inheritance inheritance)
{
    const auto trial = datapath_.trial();
    const bool running = trial.phase == TrialState::Phase::running;
    BULKHEAD_CHECK(adopt_confirmed(loaded, running ? trial.fallback_generation : datapath_.control().generation));
    if (running)
        BULKHEAD_CHECK(adopt_trial(loaded));
    if (loaded.trial && !trial_) {
        stores_.policy.drop_trial();
        tell_lapse(loaded.trial->state.policy_version, "it was not confirmed in time");
    }
    if (!has_policy()) {
        failsafes_ = std::move(inheritance.failsafes);
        return {};
    }
    show(standing()->view);
    log_info("the kernel goes on enforcing policy version {} (generation {})", state().policy_version,
             view_->generation);
    failsafes_ = standing()->failsafes;
    refresh_facets(patience_at_switch);
    judge_sessions(); // a drain that was under way when the last agent ended
    inherit(inheritance.failsafes, failsafes_, inheritance.inherited);
    return set_failsafes(std::move(inheritance.failsafes));
}

// The words of what the kernel enforces for good: saved so, or on the way there when the last agent ended.
Status Enforcer::adopt_confirmed(PolicyState::Loaded& loaded, std::uint32_t generation)
{
    auto& saved = describes(loaded.next, generation)    ? loaded.next
                  : describes(loaded.trial, generation) ? loaded.trial
                                                        : loaded.current;
    if (!describes(saved, generation)) {
        log_warning("the kernel enforces generation {}, of which nothing is saved: it goes on, and records name no "
                    "rules until the next policy",
                    generation);
        show(unknown_view_ = empty_view(generation));
        return {};
    }
    BULKHEAD_TRY(auto view, build_view(saved->state, saved->failsafes));
    view->generation = generation;
    confirmed_ = {std::move(saved->state),     saved->source, std::move(saved->signature),
                  std::move(saved->failsafes), std::nullopt,  std::move(view)};
    if (&saved == &loaded.next)
        commit(*confirmed_, true);
    else if (&saved == &loaded.trial)
        log_once(stores_.policy.confirm_trial(), trial_error_, "the saved policy cannot be put in its place");
    saved.reset();
    return {};
}

// A trial that runs. One without words is of no use to anybody: nobody can confirm it.
Status Enforcer::adopt_trial(PolicyState::Loaded& loaded)
{
    const auto trial = datapath_.trial();
    auto& saved = describes(loaded.next, trial.generation) ? loaded.next : loaded.trial;
    if (!describes(saved, trial.generation)) {
        log_warning("the kernel tries a policy of which nothing is saved: that ends now");
        BULKHEAD_CHECK(datapath_.fall_back());
        return {};
    }
    BULKHEAD_TRY(auto view, build_view(saved->state, saved->failsafes));
    view->generation = trial.generation;
    view->fallback = fallback_view();
    trial_ = {std::move(saved->state),     saved->source, std::move(saved->signature),
              std::move(saved->failsafes), trial.until,   std::move(view)};
    if (&saved == &loaded.next)
        commit(*trial_, true);
    return {};
}

Status Enforcer::resume_quarantined(PolicyState::Loaded& loaded, Inheritance inheritance)
{
    log_warning("this host is in quarantine, by {}: {}", quarantine_.hold().by, quarantine_.hold().reason);
    failsafes_ = std::move(inheritance.failsafes);
    const auto keep = [this](std::optional<Standing>& place, SavedPolicy saved, std::optional<MonotonicTime> until) {
        auto view = build_view(saved.state, saved.failsafes);
        if (!view) {
            log_error("policy version {} cannot be enforced after the quarantine: {}", saved.state.policy_version,
                      view.error().message);
            return;
        }
        place = {std::move(saved.state),     saved.source, std::move(saved.signature),
                 std::move(saved.failsafes), until,        std::move(*view)};
    };
    if (!loaded.current)
        loaded.current = policy_before();
    if (loaded.current) {
        inherit(failsafes_, loaded.current->failsafes, inheritance.inherited);
        keep(confirmed_, std::move(*loaded.current), std::nullopt);
    }
    if (loaded.trial && loaded.trial->boot_id == boot_id_ && loaded.trial->until) {
        const auto until = loaded.trial->until;
        keep(trial_, std::move(*loaded.trial), until); // when it is over, the next tick says so
    } else if (loaded.trial) {
        stores_.policy.drop_trial();
        tell_lapse(loaded.trial->state.policy_version, "the host was started anew");
    }
    return engage();
}

} // namespace bulkhead::agent
