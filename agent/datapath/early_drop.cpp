// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/early_drop.h"

#include "agent/datapath/tc_hook.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <linux/if_link.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace bulkhead::agent {

bool EarlyDrop::quarantined() const
{
    bh_control control{};
    const __u32 zero = 0;
    return bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.bh_control), &zero, &control) == 0 &&
           (control.flags & BH_CONTROL_QUARANTINE) != 0;
}

void EarlyDrop::follow(const std::vector<Interface>& guarded)
{
    if (!wanted_ || !quarantined()) {
        detach();
        return;
    }
    const auto is_guarded = [&guarded](int index) {
        return std::any_of(guarded.begin(), guarded.end(),
                           [index](const Interface& one) { return one.index == index; });
    };
    // Of an interface that is gone or is guarded no more, and what somebody has detached.
    std::erase_if(links_, [&](const auto& one) {
        return !is_guarded(one.first) || link_interface(one.second.link.get()) != one.first;
    });
    std::erase_if(refused_, [&](int index) { return !is_guarded(index); });
    for (const auto& interface : guarded)
        if (interface.header == LinkHeader::ethernet && !refused_.contains(interface.index))
            attach(interface);
}

void EarlyDrop::attach(const Interface& interface)
{
    if (const auto there = links_.find(interface.index); there != links_.end()) {
        there->second.name = interface.name;
        return;
    }
    if (unloadable_)
        return;
    if (const auto loaded = program_->load(); !loaded) {
        unloadable_ = true; // before Linux 5.18 it always is
        log_info("what arrives in quarantine is dropped by tc alone: {}", loaded.error().message);
        return;
    }
    LIBBPF_OPTS(bpf_link_create_opts, how, .flags = XDP_FLAGS_DRV_MODE);
    UniqueFd link(bpf_link_create(program_->program("bh_quarantine_in"), interface.index, BPF_XDP, &how));
    if (!link) {
        log_info("what arrives at {} in quarantine is dropped by tc: no XDP there: {}", interface.name,
                 std::generic_category().message(errno));
        refused_.insert(interface.index);
        return;
    }
    links_[interface.index] = {interface.name, std::move(link)};
    log_info("what arrives at {} in quarantine is dropped by XDP", interface.name);
}

void EarlyDrop::detach()
{
    links_.clear();
    refused_.clear();
    unloadable_ = false;
}

std::vector<std::string> EarlyDrop::interfaces() const
{
    std::vector<std::string> names;
    for (const auto& [index, attached] : links_)
        names.push_back(attached.name);
    std::sort(names.begin(), names.end());
    return names;
}

} // namespace bulkhead::agent
