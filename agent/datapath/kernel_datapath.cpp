// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/kernel_datapath.h"

#include "agent/datapath/at_once.h"
#include "agent/datapath/in_namespace.h"
#include "agent/datapath/map_entries.h"
#include "common/core/clock.h"
#include "common/core/log.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace bulkhead::agent {

namespace {

constexpr int given_up_after = 10; // seconds: what is wrong with maps that nobody writes to any more

constexpr std::uint64_t refresh_margin = 2'000'000'000; // ns: last_ns is refreshed now and then (BH_UDP_REFRESH_TICKS)

} // namespace

KernelDatapath::KernelDatapath(Parts parts, std::optional<Predecessor> predecessor, std::optional<Predecessor> replaced)
    : parts_(std::move(parts)), slots_(*parts_.skeleton), denials_(*parts_.skeleton),
      predecessor_(std::move(predecessor)), replaced_(std::move(replaced))
{
    if (auto& other = predecessor_ ? predecessor_ : replaced_) {
        old_rings_ = other->rings();
        old_denials_ = other->denials();
    }
    const bh_control control = parts_.control.load();
    in_force_.active.slot = control.active_slot;
    in_force_.shadow.slot = control.shadow_slot;
    in_force_.generation = control.generation;
    if ((control.flags & BH_CONTROL_TRIAL) != 0) {
        const bh_control then = fallback_of(control);
        fallback_ = Pair{}; // emplace() is not found by clang: Role has initializers, and is within the class
        fallback_->active.slot = then.active_slot;
        fallback_->shadow.slot = then.shadow_slot;
        fallback_->generation = then.generation;
    }
    seal();
}

std::vector<std::uint32_t> KernelDatapath::Pair::slots() const
{
    std::vector<std::uint32_t> slots;
    for (const Role* role : {&active, &shadow})
        if (role->slot != BH_SLOT_NONE)
            slots.push_back(role->slot);
    return slots;
}

std::vector<std::uint32_t> KernelDatapath::free_slots() const
{
    auto used = in_force_.slots();
    if (fallback_)
        for (const std::uint32_t slot : fallback_->slots())
            used.push_back(slot);
    std::vector<std::uint32_t> free;
    for (std::uint32_t slot = 0; slot < BH_SLOTS; ++slot)
        if (std::find(used.begin(), used.end(), slot) == used.end())
            free.push_back(slot);
    return free;
}

Result<KernelDatapath::Pair> KernelDatapath::build_pair(const Realisation& realisation, std::uint32_t generation)
{
    BULKHEAD_TRY(UniqueFd table, build_facets(realisation.facets));
    const auto facets = std::make_shared<const UniqueFd>(std::move(table));
    const auto free = free_slots();
    Pair pair;
    pair.facets = realisation.facets;
    const auto build = [&](Role& role, const policy::PlaneImage* image, std::uint32_t slot) -> Status {
        if (image == nullptr)
            return {};
        BULKHEAD_TRY(role.plane, build_plane(*image, facets));
        role.plane->info.generation = generation;
        role.slot = slot;
        return {};
    };
    BULKHEAD_CHECK(at_once({[&] { return build(pair.active, realisation.active, free[0]); },
                            [&] { return build(pair.shadow, realisation.shadow, free[1]); }}));
    if (realisation.until)
        pair.active.plane->info = trial_info(realisation, pair.active.plane->info);
    return pair;
}

// What a trial falls back to: that which is in force, or which another trial would have fallen back to.
bh_plane_info KernelDatapath::trial_info(const Realisation& realisation, bh_plane_info info) const
{
    const bh_control now = parts_.control.load();
    const bh_control then = (now.flags & BH_CONTROL_TRIAL) != 0 ? fallback_of(now) : now;
    info.then_active = then.active_slot;
    info.then_shadow = then.shadow_slot;
    info.then_flags = then.flags;
    info.then_generation = then.generation;
    info.until_ns = static_cast<__u64>(realisation.until->count());
    return info;
}

bh_control KernelDatapath::fallback_of(const bh_control& trial) const
{
    const bh_plane_info info = slots_.info_of(trial.active_slot);
    return {info.then_active, info.then_shadow, trial.abi_version, info.then_flags, info.then_generation};
}

std::vector<std::uint32_t> KernelDatapath::slots_named_by(const bh_control& control) const
{
    std::vector<std::uint32_t> slots{control.active_slot, control.shadow_slot};
    if ((control.flags & BH_CONTROL_TRIAL) != 0) {
        const bh_control then = fallback_of(control);
        slots.insert(slots.end(), {then.active_slot, then.shadow_slot});
    }
    return slots;
}

// `next` and `fallback` may be moved out of this object's own. Cannot fail: by the first write the switch is done, and
// a caller who took it for undone would know other planes in force than are.
void KernelDatapath::switch_to(const bh_control& control, Pair next, std::optional<Pair> fallback)
{
    const auto used_before = slots_named_by(parts_.control.load());
    note_beginning(control);
    parts_.control.store(control);
    in_force_ = std::move(next);
    in_force_.generation = control.generation;
    fallback_ = std::move(fallback);
    seal();
    // Decisions under way may still read the old planes. If they cannot be waited for, those stay until the next
    // change.
    const auto waited =
        slots_.wait_for_readers(in_force_.active.plane ? &in_force_.active.plane->peers : nullptr,
                                in_force_.active.plane ? in_force_.active.slot : spare_slot(used_before));
    if (waited)
        slots_.vacate(free_slots());
    else
        log_warning("the previous planes stay in memory: {}", waited.error().message);
}

// Before it: the first packets are asked for it. What another version remembers of connections is handed over.
void KernelDatapath::note_beginning(const bh_control& next)
{
    const bh_control before = control();
    const bool begins =
        (before.active_slot == BH_SLOT_NONE && next.active_slot != BH_SLOT_NONE) ||
        (before.active_slot == BH_SLOT_NONE && before.shadow_slot == BH_SLOT_NONE && next.shadow_slot != BH_SLOT_NONE);
    if (!begins || (predecessor_ && predecessor_->enforces() && predecessor_->speaks_our_abi()))
        return;
    const __u32 zero = 0;
    const auto now = static_cast<__u64>(system_clock().monotonic().count());
    if (bpf_map_update_elem(bpf_map__fd(parts_.skeleton->maps.bh_in_force_since), &zero, &now, BPF_ANY) != 0)
        log_warning("when policy came in force cannot be noted: errno {}", errno);
}

// For a change that puts no new active plane into a slot: one that is used neither before nor after it.
std::uint32_t KernelDatapath::spare_slot(const std::vector<std::uint32_t>& used_before) const
{
    for (const std::uint32_t slot : free_slots())
        if (std::find(used_before.begin(), used_before.end(), slot) == used_before.end())
            return slot;
    return BH_SLOTS - 1; // cannot be: a trial and its fallback are 4, and such a change adds at most one
}

Result<std::uint32_t> KernelDatapath::realise(const Realisation& realisation)
{
    if (realisation.until && realisation.active == nullptr)
        return fail(ErrorKind::invalid, "a trial needs an active plane");
    settle_lapsed();
    const std::uint32_t generation = next_generation();
    slots_.vacate(free_slots()); // left by an agent that died on the way
    BULKHEAD_TRY(Pair next, build_pair(realisation, generation));
    PlaneSlots::Filling filling;
    for (const Role* role : {&next.active, &next.shadow})
        if (role->plane)
            filling.emplace_back(role->slot, &*role->plane);
    auto ready = slots_.fill(filling);
    if (ready)
        ready = finish_opening(); // until now nothing has been in force, and no session was ended
    if (!ready) {
        slots_.vacate(next.slots());
        return tl::unexpected(std::move(ready).error());
    }
    bh_control control{static_cast<__u8>(next.active.slot), static_cast<__u8>(next.shadow.slot), BH_ABI_VERSION,
                       realisation.flags, generation};
    std::optional<Pair> fallback;
    if (realisation.until) {
        control.flags |= BH_CONTROL_TRIAL;
        fallback = fallback_ ? std::move(fallback_) : std::optional(std::move(in_force_));
    }
    switch_to(control, std::move(next), std::move(fallback));
    if (predecessor_)
        if (auto taken = take_over(); !taken) {
            (void)clear(); // its programs go on
            return tl::unexpected(std::move(taken).error());
        }
    return generation;
}

// Of every slot, what was last put into it is remembered, also of a trial that is over.
std::uint32_t KernelDatapath::next_generation() const
{
    std::uint32_t last = parts_.control.load().generation;
    for (std::uint32_t slot = 0; slot < BH_SLOTS; ++slot)
        last = std::max(last, slots_.info_of(slot).generation);
    return last + 1;
}

TrialState KernelDatapath::trial() const
{
    TrialState state;
    const bh_control control = parts_.control.load();
    if ((control.flags & BH_CONTROL_TRIAL) == 0)
        return state;
    const bh_plane_info info = slots_.info_of(control.active_slot);
    state.until = MonotonicTime(info.until_ns);
    state.phase = system_clock().monotonic() < state.until ? TrialState::Phase::running : TrialState::Phase::lapsed;
    state.generation = control.generation;
    state.fallback_generation = info.then_generation;
    return state;
}

Status KernelDatapath::confirm()
{
    switch (trial().phase) {
    case TrialState::Phase::none: return fail(ErrorKind::refused, "no trial is under way");
    case TrialState::Phase::lapsed: return fail(ErrorKind::refused, "the time of the trial is over");
    case TrialState::Phase::running: break;
    }
    bh_control control = parts_.control.load();
    control.flags &= static_cast<__u8>(~BH_CONTROL_TRIAL);
    switch_to(control, std::move(in_force_), std::nullopt);
    return {};
}

Status KernelDatapath::fall_back()
{
    const bh_control control = parts_.control.load();
    if ((control.flags & BH_CONTROL_TRIAL) == 0 || !fallback_)
        return fail(ErrorKind::refused, "no trial is under way");
    switch_to(fallback_of(control), std::move(*fallback_), std::nullopt);
    return {};
}

void KernelDatapath::settle_lapsed()
{
    if (trial().phase != TrialState::Phase::lapsed)
        return;
    if (auto settled = fall_back(); !settled)
        log_warning("a trial that is over cannot be put away: {}", settled.error().message);
}

Status KernelDatapath::replace_facets_of(const Pair& pair, const FacetTable& facets)
{
    for (const Role* role : {&pair.active, &pair.shadow}) {
        if (role->slot == BH_SLOT_NONE)
            continue;
        if (role->plane) {
            BULKHEAD_CHECK(replace_facets(role->plane->facets->get(), facets));
        } else {
            BULKHEAD_TRY(const UniqueFd table, slots_.facets_of(role->slot));
            BULKHEAD_CHECK(replace_facets(table.get(), facets));
        }
    }
    return {};
}

// Null when that generation is neither in force nor what a trial falls back to. By generation, since which pair is in
// force changes by the clock alone: it does not tell which one a caller has in mind.
KernelDatapath::Pair* KernelDatapath::pair_of(std::uint32_t generation)
{
    if (fallback_ && fallback_->generation == generation)
        return &*fallback_;
    const bool is_over = fallback_ && trial().phase == TrialState::Phase::lapsed;
    return in_force_.generation == generation && !is_over ? &in_force_ : nullptr;
}

Status KernelDatapath::update_facets(std::uint32_t generation, const FacetTable& facets)
{
    Pair* pair = pair_of(generation);
    if (pair == nullptr)
        return fail(ErrorKind::refused, "the planes of generation {} are not in force any more", generation);
    auto replaced = replace_facets_of(*pair, facets);
    if (replaced)
        pair->facets = facets;
    else if (pair->facets) // no room: not half of each
        (void)replace_facets_of(*pair, *pair->facets);
    return replaced;
}

Status KernelDatapath::clear()
{
    const bh_control now = parts_.control.load();
    if (now.active_slot == BH_SLOT_NONE && now.shadow_slot == BH_SLOT_NONE)
        return {};
    switch_to({BH_SLOT_NONE, BH_SLOT_NONE, BH_ABI_VERSION, 0, next_generation()}, {}, std::nullopt);
    return {};
}

bh_control KernelDatapath::control() const
{
    const bh_control control = parts_.control.load();
    return trial().phase == TrialState::Phase::lapsed ? fallback_of(control) : control;
}

Status KernelDatapath::judge(std::span<bh_judge_request> requests)
{
    for (std::size_t done = 0; done < requests.size(); done += BH_JUDGE_BATCH)
        BULKHEAD_CHECK(
            judge_batch(requests.subspan(done, std::min<std::size_t>(BH_JUDGE_BATCH, requests.size() - done))));
    return {};
}

// A run of the program costs more than a verdict, so it gives many.
Status KernelDatapath::judge_batch(std::span<bh_judge_request> requests)
{
    bh_judge_batch& batch = parts_.skeleton->bss->bh_judge_batch;
    batch.count = static_cast<__u32>(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
        batch.call[i].request = requests[i];
        const std::uint64_t cgroup = requests[i].subject.cgroup_id;
        batch.call[i].cgroups = cgroup != 0 ? parts_.cgroups.enclosing(cgroup) : bh_cgroup_path{};
    }
    LIBBPF_OPTS(bpf_test_run_opts, options);
    static constexpr std::array<std::byte, 14>
        frame{}; // an Ethernet header, which nobody looks at; without one, EINVAL
    options.data_in = frame.data();
    options.data_size_in = frame.size();
    if (bpf_prog_test_run_opts(bpf_program__fd(parts_.skeleton->progs.bh_judge_program), &options) != 0)
        return fail_errno(errno, "ask the kernel for a verdict");
    for (std::size_t i = 0; i < requests.size(); ++i)
        requests[i] = batch.call[i].request;
    return {};
}

namespace {

// Of each map; forgets what is over.
template <typename Key, typename Value, typename IsOver>
std::vector<std::pair<Key, Value>> list_living(std::initializer_list<const bpf_map*> maps, const IsOver& is_over)
{
    std::vector<std::pair<Key, Value>> found;
    for (const bpf_map* map : maps)
        for_each_entry<Key, Value>(bpf_map__fd(map), [&](const Key& key, const Value& value) {
            if (is_over(key, value))
                forget_if_still<Key, Value>(bpf_map__fd(map), key,
                                            [&](const Value& again) { return is_over(key, again); });
            else
                found.emplace_back(key, value);
        });
    return found;
}

} // namespace

Result<std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>> KernelDatapath::udp_flows()
{
    const auto now = static_cast<std::uint64_t>(system_clock().monotonic().count());
    const auto& maps = parts_.skeleton->maps;
    return list_living<bh_udp_flow_key, bh_udp_flow>(
        {maps.bh_udp_out, maps.bh_udp_in}, [now](const auto&, const bh_udp_flow& flow) {
            return now > flow.last_ns && now - flow.last_ns > BH_UDP_IDLE_NS + refresh_margin;
        });
}

Result<KernelExchanges> KernelDatapath::exchanges()
{
    const auto now = static_cast<std::uint64_t>(system_clock().monotonic().count());
    const auto& maps = parts_.skeleton->maps;
    auto found = list_living<bh_exchange_key, bh_exchange>(
        {maps.bh_exchanges, maps.bh_spare_exchanges},
        [now](const auto& key, const auto& exchange) { return is_over(key, exchange, now); });
    std::erase_if(found, [](const auto& entry) { return (entry.second.marks & BH_REFUSED_SINCE) != 0; });
    return found;
}

Status KernelDatapath::forget_udp_flow(const bh_udp_flow_key& key)
{
    for (const bpf_map* map : {parts_.skeleton->maps.bh_udp_out, parts_.skeleton->maps.bh_udp_in})
        if (bpf_map_delete_elem(bpf_map__fd(map), &key) != 0 && errno != ENOENT)
            return fail_errno(errno, "forget a UDP conversation");
    return {};
}

Result<std::size_t> KernelDatapath::consume(const EventSink& sink, const Settle& settle,
                                            std::chrono::milliseconds timeout)
{
    if (old_rings_) {
        BULKHEAD_TRY(const std::size_t untold, old_rings_->consume(sink, settle, std::chrono::milliseconds(0)));
        if (untold > 0)
            return untold;
    }
    return parts_.rings->consume(sink, settle, timeout);
}

Status KernelDatapath::take_denials(const DenialSink& sink)
{
    if (old_denials_) {
        const auto taken = old_denials_->take(sink);
        if (!taken && old_failures_++ == 0)
            log_error("what the other version has counted cannot be read: {}", taken.error().message);
        if (!others_count() && (taken || old_failures_ >= given_up_after))
            old_denials_.reset();
    }
    return denials_.take(sink);
}

Status KernelDatapath::follow_interfaces()
{
    (void)guard().changed();
    if (predecessor_)
        return {};
    auto followed = guard().follow();
    guard().follow_quarantine();
    // An interface that was made to be moved is known now, and moved soon.
    auto asked = follow_ingress();
    return followed ? asked : followed;
}

void KernelDatapath::begin_guarding(bool anew)
{
    began_anew_ = anew;
    guarding_ = std::async(std::launch::async | std::launch::deferred, [this] { return parts_.guard.follow(); });
}

Status KernelDatapath::finish_opening()
{
    if (!guarding_.valid())
        return opened_;
    opened_ = guarding_.get();
    if (!opened_ && began_anew_) {
        (void)in_namespace(parts_.netns.get(), [this]() -> Status {
            remove_guard_filters(parts_.pins); // which have no pins that could be removed
            return {};
        });
        (void)parts_.pins.remove();
    }
    return opened_;
}

// Not before begin_guarding() is done with it. How that ended is finish_opening()'s to say.
Guard& KernelDatapath::guard()
{
    if (guarding_.valid())
        guarding_.wait();
    return parts_.guard;
}

} // namespace bulkhead::agent
