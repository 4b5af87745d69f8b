// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/enforcer.h"

#include "agent/daemon/failsafe.h"
#include "common/core/log.h"

#include <algorithm>
#include <cstring>
#include <tuple>

namespace bulkhead::agent {
namespace {

constexpr unsigned save_again_ticks = 5;

Result<std::shared_ptr<PolicyView>> build_view(const wire::HostState& state,
                                               const std::vector<policy::HostRule>& failsafes)
{
    auto view = std::make_shared<PolicyView>();
    view->policy_version = state.policy_version;
    view->policy = with_failsafes(state.policy, failsafes);
    BULKHEAD_TRY(view->active, policy::lower(view->policy, policy::Plane::active, state.addresses));
    BULKHEAD_TRY(view->shadow, policy::lower(view->policy, policy::Plane::shadow, state.addresses));
    view->addresses = state.addresses;
    view->identities = state.identities;
    return view;
}

bool same_meaning(const wire::HostState& a, const wire::HostState& b)
{
    return a.policy == b.policy && a.addresses == b.addresses && a.identities == b.identities;
}

bool same_facets(const FacetTable& a, const FacetTable& b)
{
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const FacetRow& x, const FacetRow& y) {
        return std::memcmp(&x.key, &y.key, sizeof x.key) == 0 &&
               std::memcmp(&x.classes, &y.classes, sizeof x.classes) == 0;
    });
}

// Says a lasting trouble once, and again when it changes.
void log_once(const Status& status, std::string& last, const char* what)
{
    const std::string now = status ? std::string() : status.error().message;
    if (!now.empty() && now != last)
        log_warning("{}: {}", what, now);
    last = now;
}

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

Enforcer::Enforcer(Datapath& datapath, SubjectResolver& subjects, SessionKeeper& sessions, PolicyState& saved,
                   std::string boot_id, Hooks hooks)
    : datapath_(datapath), subjects_(subjects), sessions_(sessions), saved_(saved), boot_id_(std::move(boot_id)),
      hooks_(std::move(hooks))
{}

bool Enforcer::plane_in_force() const
{
    const auto control = datapath_.control();
    return control.active_slot != BH_SLOT_NONE || control.shadow_slot != BH_SLOT_NONE;
}

Status Enforcer::resume(std::vector<policy::HostRule> failsafes, const std::vector<std::string>& inherited)
{
    show_nothing(); // until it is known better
    BULKHEAD_TRY(auto loaded, saved_.load());
    for (const auto& line : loaded.damage)
        log_error("{}", line);
    // Listeners older than the programs are in no table yet, and inbound rules look them up.
    if (auto sockets = datapath_.walk_sockets(); sockets)
        log_once(datapath_.adopt_listeners(*sockets), session_error_, "cannot adopt listeners");
    else
        log_warning("cannot walk sockets: {}", sockets.error().message);

    if (plane_in_force())
        return adopt_pinned(loaded, std::move(failsafes), inherited);
    failsafes_ = std::move(failsafes);
    if (!loaded.current)
        return {};
    inherit(failsafes_, loaded.current->failsafes, inherited);
    log_info("enforcing the policy that was saved: version {}", loaded.current->state.policy_version);
    return realise(std::move(loaded.current->state), loaded.current->source, failsafes_);
}

Status Enforcer::adopt_pinned(PolicyState::Loaded& loaded, std::vector<policy::HostRule> failsafes,
                              const std::vector<std::string>& inherited)
{
    const std::uint32_t generation = datapath_.control().generation;
    const auto describes = [&](const std::optional<SavedPolicy>& saved) {
        return saved && saved->boot_id == boot_id_ && saved->kernel_generation == generation;
    };
    auto& pinned = describes(loaded.next) ? loaded.next : loaded.current;
    if (!describes(pinned)) {
        log_warning(
            "the kernel enforces generation {}, of which nothing is saved: it goes on, and records name no rules "
            "until the next policy",
            generation);
        failsafes_ = std::move(failsafes);
        return {};
    }
    BULKHEAD_TRY(auto view, build_view(pinned->state, pinned->failsafes));
    view->generation = generation;
    show(std::move(view));
    if (&pinned == &loaded.next)
        commit(true);
    log_info("the kernel goes on enforcing policy version {} (generation {})", pinned->state.policy_version,
             generation);
    has_policy_ = true;
    source_ = pinned->source;
    state_ = std::move(pinned->state);
    failsafes_ = std::move(pinned->failsafes);
    refresh_facets();
    judge_sessions(); // a drain that was under way when the last agent ended
    inherit(failsafes, failsafes_, inherited);
    return set_failsafes(std::move(failsafes));
}

Status Enforcer::enforce(wire::HostState next, PolicySource source)
{
    auto done = has_policy_ && same_meaning(next, state_) ? relabel(std::move(next), source)
                                                          : realise(std::move(next), source, failsafes_);
    refusal_ = done ? std::string() : done.error().message;
    return done;
}

Status Enforcer::set_failsafes(std::vector<policy::HostRule> failsafes)
{
    if (failsafes == failsafes_)
        return {};
    if (!has_policy_) {
        failsafes_ = std::move(failsafes);
        return {};
    }
    log_info("the failsafes have changed");
    return realise(state_, source_, std::move(failsafes));
}

Status Enforcer::realise(wire::HostState next, PolicySource source, std::vector<policy::HostRule> failsafes)
{
    BULKHEAD_TRY(auto view, build_view(next, failsafes));
    auto facets = subjects_.resolve(view->policy.processes);
    view->generation = datapath_.control().generation + 1;
    bool prepared = save(next, source, failsafes, view->generation);
    const auto before = view_;
    show(view);
    const auto switched = datapath_.realise({&view->active, &view->shadow, facets});
    if (!switched) {
        saved_.discard();
        show(before);
        return tl::unexpected(switched.error());
    }
    if (*switched != view->generation) {
        view = std::make_shared<PolicyView>(*view);
        view->generation = *switched;
        show(view);
        prepared = save(next, source, failsafes, *switched);
    }
    commit(prepared);
    has_policy_ = true;
    source_ = source;
    state_ = std::move(next);
    failsafes_ = std::move(failsafes);
    facets_ = std::move(facets);
    judge_sessions();
    return {};
}

// Another version of the policy that means the same on this host: the records name it, the kernel need not know.
Status Enforcer::relabel(wire::HostState next, PolicySource source)
{
    if (next == state_ && source == source_)
        return {};
    if (next.policy_version != view_->policy_version) {
        auto view = std::make_shared<PolicyView>(*view_);
        view->policy_version = next.policy_version;
        show(std::move(view));
    }
    commit(save(next, source, failsafes_, view_->generation));
    state_ = std::move(next);
    source_ = source;
    return {};
}

void Enforcer::tick()
{
    save_late();
    refresh_facets();
    const auto ended = sessions_.tick();
    if (!ended) {
        log_once(tl::unexpected(ended.error()), session_error_, "cannot end drained sessions");
        return;
    }
    for (const auto& session : *ended)
        hooks_.on_cut(session);
}

void Enforcer::refresh_facets()
{
    if (!has_policy_)
        return;
    auto facets = subjects_.resolve(view_->policy.processes);
    if (same_facets(facets, facets_))
        return;
    const auto updated = datapath_.update_facets(facets);
    log_once(updated, facet_error_, "cannot update process facets");
    if (updated)
        facets_ = std::move(facets);
}

void Enforcer::judge_sessions()
{
    const auto forbidden = sessions_.after_switch(state_.policy.sessions);
    if (!forbidden) {
        log_warning("live sessions could not be judged again: {}", forbidden.error().message);
        return;
    }
    for (const auto& session : *forbidden)
        if (session.destroyed)
            hooks_.on_cut(session);
}

void Enforcer::show(std::shared_ptr<const PolicyView> view)
{
    view_ = std::move(view);
    hooks_.on_view(view_);
}

void Enforcer::show_nothing()
{
    auto view = std::make_shared<PolicyView>();
    view->generation = datapath_.control().generation;
    show(std::move(view));
}

// A full disk must not keep a policy from being enforced; it only cannot be known after a reboot then.
bool Enforcer::save(const wire::HostState& state, PolicySource source, const std::vector<policy::HostRule>& failsafes,
                    std::uint32_t kernel_generation)
{
    const auto prepared = saved_.prepare({source, kernel_generation, boot_id_, state, failsafes});
    if (!prepared)
        log_error("policy version {} cannot be saved, so a reboot would bring back an older one: {}",
                  state.policy_version, prepared.error().message);
    return prepared.has_value();
}

void Enforcer::commit(bool prepared)
{
    unsaved_ = !prepared;
    if (!prepared)
        return;
    if (const auto committed = saved_.commit(); !committed) {
        log_error("the saved policy cannot be put in its place: {}", committed.error().message);
        unsaved_ = true;
    }
}

void Enforcer::save_late()
{
    if (!unsaved_ || !has_policy_ || ++ticks_unsaved_ % save_again_ticks != 0)
        return;
    if (!saved_.prepare({source_, view_->generation, boot_id_, state_, failsafes_}))
        return;
    commit(true);
    if (!unsaved_)
        log_info("policy version {} is saved now", state_.policy_version);
}

} // namespace bulkhead::agent
