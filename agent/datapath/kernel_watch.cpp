// SPDX-License-Identifier: Apache-2.0
// What root may do to pins, links and maps behind the agent's back: noticed, and put right.
#include "agent/datapath/kernel_datapath.h"
#include "agent/datapath/map_entries.h"
#include "common/core/log.h"

#include <algorithm>
#include <cstring>
#include <tuple>

namespace bulkhead::agent {

namespace {

auto order(const bh_facet_key& key)
{
    return std::tuple(key.facet, key.device, key.value);
}

void sort(FacetTable& rows)
{
    std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return order(a.key) < order(b.key); });
}

bool same(const FacetTable& a, const FacetTable& b)
{
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const FacetRow& x, const FacetRow& y) {
        return order(x.key) == order(y.key) && std::memcmp(&x.classes, &y.classes, sizeof(x.classes)) == 0;
    });
}

FacetTable rows_of(int table)
{
    FacetTable rows;
    for_each_entry<bh_facet_key, bh_class_vector>(table, [&](const auto& key, const auto& classes) {
        rows.push_back({key, classes});
    });
    return rows;
}

} // namespace

// Called after every change of ours.
void KernelDatapath::seal()
{
    sealed_word_ = parts_.control.load();
    sealed_slots_.clear();
    for (const std::uint32_t slot : slots_named_by(sealed_word_)) {
        if (slot == BH_SLOT_NONE)
            continue;
        if (auto content = slots_.content_of(slot))
            sealed_slots_.push_back(std::move(*content));
        else
            log_debug("slot {} is not watched: {}", slot, content.error().message);
    }
}

std::vector<Tampering> KernelDatapath::look_for_tampering()
{
    std::vector<Tampering> found;
    if (!parts_.attachments)
        return found; // another version's programs decide, of which nothing is known
    inspect_planes(found);
    parts_.attachments->inspect(found);
    if (gates_wait_) {
        replace_gates_and_pins();
        replaced_->hand_over_conversations(*parts_.skeleton); // of both versions, meanwhile
    }
    if (!gates_wait_)
        inspect_gates_and_pins(found);
    (void)follow_interfaces(); // whose own trouble is told by whoever follows interfaces
    hand_over_to_guard();
    forget_replaced();
    for (auto& what : guard().take_mended())
        found.push_back({std::move(what), {}});
    return found;
}

void KernelDatapath::inspect_gates_and_pins(std::vector<Tampering>& found)
{
    auto objects = pinned_maps(parts_.pins, parts_.skeleton->obj);
    for (auto& link : parts_.attachments->pinned())
        objects.push_back(std::move(link));
    parts_.namespaces.inspect(found);
    for (auto& gate : parts_.namespaces.pinned())
        objects.push_back(std::move(gate));
    inspect_pins(parts_.pins, objects, found);
}

void KernelDatapath::inspect_planes(std::vector<Tampering>& found)
{
    const bh_control word = parts_.control.load();
    // The slots first: the word must not name one that does not hold what it should.
    for (const auto& content : sealed_slots_) {
        if (slots_.holds(content))
            continue;
        Tampering tampering{fmt::format("the maps of plane slot {} were replaced", content.slot), {}};
        if (auto done = slots_.put_back(content); !done)
            tampering.failure = done.error().message;
        found.push_back(std::move(tampering));
    }
    if (std::memcmp(&word, &sealed_word_, sizeof(word)) != 0) {
        parts_.control.store(sealed_word_);
        found.push_back(
            {fmt::format("the control word was changed: slots {} and {} instead of {} and {}, flags {} "
                         "instead of {}, generation {} instead of {}",
                         word.active_slot, word.shadow_slot, sealed_word_.active_slot, sealed_word_.shadow_slot,
                         word.flags, sealed_word_.flags, word.generation, sealed_word_.generation),
             {}});
    }
    inspect_facets(found);
}

// The facets are the only part of a plane in force that is written to, so they cannot be frozen.
void KernelDatapath::inspect_facets(std::vector<Tampering>& found)
{
    const auto& role = in_force_.active.plane ? in_force_.active : in_force_.shadow;
    if (!role.plane || !in_force_.facets || trial().phase == TrialState::Phase::lapsed)
        return;
    auto there = rows_of(role.plane->facets->get());
    auto wanted = *in_force_.facets;
    sort(there);
    sort(wanted);
    if (same(there, wanted))
        return;
    Tampering tampering{"the classes of processes were changed", {}};
    if (auto done = replace_facets(role.plane->facets->get(), wanted); !done)
        tampering.failure = done.error().message;
    found.push_back(std::move(tampering));
}

} // namespace bulkhead::agent
