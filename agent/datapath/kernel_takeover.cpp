// SPDX-License-Identifier: Apache-2.0
// From the programs of an agent with another layout of maps to ours, without a moment in which none decides.
#include "agent/datapath/kernel_datapath.h"
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

bool KernelDatapath::in_quarantine() const
{
    return predecessor_ ? predecessor_->in_quarantine() : Datapath::in_quarantine();
}

// Our maps hold what is to be enforced. The programs that keep the listener table are switched first, then the table is
// filled, then come those that decide: so a listener that is born meanwhile is in the table of whoever decides about
// it.
Status KernelDatapath::take_over()
{
    const auto halfway = [this]() -> Status {
        predecessor_->hand_over_listeners(parts_.pins, *parts_.skeleton);
        BULKHEAD_TRY(const auto sockets, walk_sockets());
        BULKHEAD_CHECK(adopt_listeners(sockets));
        predecessor_->hand_over_conversations(parts_.pins, *parts_.skeleton);
        return {};
    };
    // An own address that is not known for such is a peer's.
    if (const auto known = guard().follow_addresses(); !known)
        log_error("{}", known.error().message);
    parts_.namespaces.know_addresses();
    BULKHEAD_TRY(parts_.attachments, Attachments::make(parts_.pins, parts_.where, *parts_.skeleton, halfway));
    // Our programs decide. What fails from here on is told, and is no reason to go back.
    if (const auto followed = guard().follow(); !followed)
        log_error("{}", followed.error().message);                        // and tried again every second
    predecessor_->hand_over_conversations(parts_.pins, *parts_.skeleton); // those that began meanwhile
    replace_gates_and_pins();
    auto known = parts_.attachments->pinned();
    for (auto& gate : parts_.namespaces.pinned())
        known.push_back(std::move(gate));
    remove_other_links(parts_.pins, known);
    log_info("took over from programs of another version ({})", predecessor_->difference());
    finished_.emplace(std::move(*predecessor_)); // what it had not told is read yet
    predecessor_.reset();
    return {};
}

void KernelDatapath::replace_gates_and_pins()
{
    const auto beside = pin_beside(parts_.pins, parts_.skeleton->obj);
    if (!beside)
        log_error("the pins are mended soon: {}", beside.error().message); // by look_for_tampering()
    const auto gates = parts_.namespaces.take_over();
    if (!gates)
        log_error("the other version goes on in a network namespace: {}", gates.error().message);
    if (const auto replaced = finish_replacing_pins(parts_.pins); !replaced)
        log_error("the pins are mended soon: {}", replaced.error().message);
    if (gates)
        remove_replaced_pins(parts_.pins);
    auto change = parts_.namespaces.follow(Namespaces::at_a_start);
    if (change.trouble)
        log_error("{}", change.trouble->message);
    parts_.unjudged.insert(parts_.unjudged.end(), change.came.begin(), change.came.end());
}

} // namespace bulkhead::agent
