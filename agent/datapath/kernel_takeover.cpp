// SPDX-License-Identifier: Apache-2.0
// From the programs of an agent with another layout of maps to ours, without a moment in which none decides.
#include "agent/datapath/kernel_datapath.h"
#include "common/core/clock.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace bulkhead::agent {

namespace {

// Of hooks that only the other version has: nobody would keep up what they decide by.
void remove_other_links(const PinFolder& pins, const std::vector<PinnedObject>& ours)
{
    std::set<std::string> known;
    for (const auto& one : ours)
        known.insert(one.path);
    std::error_code error;
    std::vector<std::string> others;
    for (const auto& pin : std::filesystem::directory_iterator(pins.path() + "/links", error))
        if (!known.contains(pin.path().string()) && !pin.path().filename().string().starts_with("guard_"))
            others.push_back(pin.path().string());
    for (const auto& path : others) {
        if (const UniqueFd link(bpf_obj_get(path.c_str())); link)
            (void)bpf_link_detach(link.get());
        if (::unlink(path.c_str()) == 0)
            log_info("removed {}, which this version does not have", path);
    }
}

} // namespace

std::optional<std::string> KernelDatapath::pending_takeover() const
{
    return predecessor_ ? std::optional(predecessor_->difference()) : std::nullopt;
}

std::optional<std::uint32_t> KernelDatapath::pending_generation() const
{
    return predecessor_ ? predecessor_->generation() : std::nullopt;
}

bool KernelDatapath::in_quarantine() const
{
    return predecessor_ ? predecessor_->in_quarantine() : Datapath::in_quarantine();
}

// Our maps hold what is to be enforced. The programs that keep the listener table are switched first, then the table is
// filled, then come those that decide: so a listener that is born meanwhile is in the table of whoever decides about
// it, but for the moment in between.
Status KernelDatapath::take_over()
{
    BULKHEAD_CHECK(pin_beside(parts_.pins, parts_.skeleton->obj));
    if (auto replaced = replace_doors(); !replaced) {
        unpin_beside(parts_.pins);
        return replaced;
    }
    // Our programs decide. What fails from here on is told, and is no reason to go back. The gates come first: what
    // begins until they are exchanged is known to one of the two versions.
    replaced_ = std::exchange(predecessor_, std::nullopt);
    replace_gates_and_pins();
    replaced_->hand_over_conversations(*parts_.skeleton); // those that began meanwhile
    if (const auto found = find_listeners(); !found)      // those that ended
        log_error("{}", found.error().message);
    if (const auto followed = guard().follow(); !followed)
        log_error("{}", followed.error().message); // and tried again every second
    replaced_->hand_over_exchanges(*parts_.skeleton);
    remove_links_of_another();
    log_info("took over from programs of another version ({})", replaced_->difference());
    return {};
}

void KernelDatapath::remove_links_of_another()
{
    auto known = parts_.attachments->pinned();
    for (auto& gate : parts_.namespaces.pinned())
        known.push_back(std::move(gate));
    remove_other_links(parts_.pins, known);
}

Status KernelDatapath::replace_doors()
{
    // Elsewhere what the table does not know is judged as anybody's.
    if (!parts_.skeleton->rodata->scope_is_root && predecessor_->enforces() &&
        !predecessor_->listeners_fit(*parts_.skeleton))
        return fail(ErrorKind::refused, "more ports are bound than the table of listeners of this version holds");
    const auto begun = system_clock().monotonic();
    const auto halfway = [this, begun]() -> Status {
        // Nobody keeps the table by which the others decide, until ours do.
        if (!predecessor_->hand_over_listeners(*parts_.skeleton, begun))
            BULKHEAD_CHECK(find_listeners());
        predecessor_->hand_over_conversations(*parts_.skeleton);
        return {};
    };
    // An own address that is not known for such is a peer's.
    if (const auto known = guard().follow_addresses(); !known)
        log_error("{}", known.error().message);
    predecessor_->hand_over_addresses(*parts_.skeleton);
    parts_.namespaces.know_addresses();
    BULKHEAD_TRY(parts_.attachments,
                 Attachments::make(parts_.pins, parts_.where, *parts_.skeleton, parts_.ingress.hooks(), halfway));
    parts_.ingress.begin(parts_.pins, *parts_.attachments);
    return {};
}

// What finds no room is told of as at any other time.
Status KernelDatapath::find_listeners()
{
    BULKHEAD_TRY(const auto sockets, walk_sockets());
    if (const auto adopted = adopt_listeners(sockets); !adopted)
        log_warning("{}", adopted.error().message);
    return {};
}

// Once more, when ours stands everywhere: answers to what the other one let pass.
void KernelDatapath::hand_over_to_guard()
{
    if (!replaced_ || gates_wait_ || guard().any_of_another() || std::exchange(guard_knows_, true))
        return;
    replaced_->hand_over_exchanges(*parts_.skeleton);
}

void KernelDatapath::replace_gates_and_pins()
{
    // A gate that looks into maps without a pin would stand open when this process ends.
    auto whole = make_beside_whole(parts_.pins);
    if (!whole && parts_.pins.prepare() && pin_beside(parts_.pins, parts_.skeleton->obj)) // somebody has removed them
        whole = make_beside_whole(parts_.pins);
    const bool waited = std::exchange(gates_wait_, !whole);
    parts_.namespaces.leave_gates_of_another(gates_wait_);
    if (gates_wait_) {
        if (!waited)
            log_error("the other version goes on in network namespaces: {}", whole.error().message);
        return;
    }
    if (const auto gates = parts_.namespaces.take_over(); !gates)
        log_error("the other version goes on in a network namespace: {}", gates.error().message);
    if (const auto replaced = finish_replacing_pins(parts_.pins); !replaced)
        log_error("the pins are mended soon: {}", replaced.error().message); // by look_for_tampering()
    replaced_->look_for_pins(parts_.pins);
    auto change = parts_.namespaces.follow(Namespaces::at_a_start);
    if (change.trouble)
        log_error("{}", change.trouble->message);
    parts_.unjudged.insert(parts_.unjudged.end(), change.came.begin(), change.came.end());
}

bool KernelDatapath::others_count() const
{
    return predecessor_ || gates_wait_ || guard().any_of_another() || parts_.namespaces.any_gate_of_another();
}

// Until then its pins keep that for the next agent, if this one is killed.
void KernelDatapath::forget_replaced()
{
    if (!replaced_ || others_count() || old_denials_)
        return;
    if (old_rings_ && (old_rings_->use().flow_bytes != 0 || old_rings_->use().deny_bytes != 0))
        return;
    remove_replaced_pins(parts_.pins);
    replaced_.reset();
}

} // namespace bulkhead::agent
