// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/predecessor.h"

#include "agent/datapath/map_entries.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>

namespace bulkhead::agent {

namespace {

namespace fs = std::filesystem;

constexpr const char* control_map = "bh_control";

std::string next_folder(const PinFolder& pins)
{
    return pins.path() + "/maps-next";
}

std::string old_folder(const PinFolder& pins)
{
    return pins.path() + "/maps-old";
}

bool exists(const std::string& path)
{
    std::error_code ignored;
    return fs::exists(path, ignored);
}

void remove_folder(const std::string& folder)
{
    std::error_code ignored;
    for (const auto& pin : fs::directory_iterator(folder, ignored))
        (void)::unlink(pin.path().c_str());
    (void)::rmdir(folder.c_str());
}

Status rename_folder(const std::string& from, const std::string& to)
{
    if (std::rename(from.c_str(), to.c_str()) != 0)
        return fail_errno(errno, fmt::format("rename {} to {}", from, to));
    return {};
}

bpf_map_info info_of(int fd)
{
    bpf_map_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
        return {};
    return info;
}

// Numbers of generations are given anew after us. What was let pass is judged once more, as after any change of policy.
void forget_generation(bh_udp_flow& flow)
{
    flow.generation = 0;
}

void forget_generation(bh_exchange& exchange)
{
    exchange.generation = 0;
}

void forget_generation(bh_listener&) {} // has none

template <typename Key, typename Value>
void copy_entries(const PinFolder& pins, const bpf_map* to, const std::function<void(const Key&)>& on_copy)
{
    const UniqueFd from(bpf_obj_get(pins.map(bpf_map__name(to)).c_str()));
    if (!from)
        return;
    const auto info = info_of(from.get());
    if (info.key_size != sizeof(Key) || info.value_size != sizeof(Value))
        return;
    for_each_entry<Key, Value>(from.get(), [&](const Key& key, const Value& value) {
        Value copy = value;
        forget_generation(copy);
        if (bpf_map_update_elem(bpf_map__fd(to), &key, &copy, BPF_NOEXIST) == 0) // when full: it is judged as new
            on_copy(key);
    });
}

// Each conversation has a place (bpf/udp_flows.h). Scattered, so that whoever looks for one soon meets a free one.
void copy_conversations(const PinFolder& pins, const bpf_map* to, const bpf_map* places, __u32& taken)
{
    copy_entries<bh_udp_flow_key, bh_udp_flow>(pins, to, [&](const bh_udp_flow_key& key) {
        const __u32 at = taken++ * 40503 % bpf_map__max_entries(places); // odd, and that is a power of two
        (void)bpf_map_update_elem(bpf_map__fd(places), &at, &key, BPF_ANY);
    });
}

} // namespace

Predecessor Predecessor::find(const PinFolder& pins, std::string difference)
{
    Predecessor found(std::move(difference));
    const UniqueFd fd(bpf_obj_get(pins.map(control_map).c_str()));
    bh_control control{};
    const __u32 zero = 0;
    if (fd && info_of(fd.get()).value_size == sizeof(control) && bpf_map_lookup_elem(fd.get(), &zero, &control) == 0)
        found.control_ = control;
    return found;
}

bool Predecessor::enforces() const
{
    return !control_ || control_->active_slot != BH_SLOT_NONE || control_->shadow_slot != BH_SLOT_NONE;
}

void Predecessor::hand_over_listeners(const PinFolder& pins, ::datapath& skeleton) const
{
    if (speaks_our_abi())
        copy_entries<bh_listener_key, bh_listener>(pins, skeleton.maps.bh_listeners, [](const auto&) {});
}

void Predecessor::hand_over_conversations(const PinFolder& pins, ::datapath& skeleton)
{
    if (!speaks_our_abi())
        return;
    copy_conversations(pins, skeleton.maps.bh_udp_out, skeleton.maps.bh_udp_out_places, places_taken_);
    copy_conversations(pins, skeleton.maps.bh_udp_in, skeleton.maps.bh_udp_in_places, places_taken_);
    copy_entries<bh_exchange_key, bh_exchange>(pins, skeleton.maps.bh_exchanges, [](const auto&) {});
}

int Predecessor::keep(const std::string& pin)
{
    kept_.emplace_back(bpf_obj_get(pin.c_str()));
    return kept_.back().get();
}

std::unique_ptr<Rings> Predecessor::rings(const PinFolder& pins)
{
    if (!speaks_our_abi())
        return nullptr;
    auto opened = Rings::open(keep(pins.map("bh_flow_ring")), keep(pins.map("bh_deny_ring")));
    return opened ? std::move(*opened) : nullptr;
}

std::optional<DenialTables> Predecessor::denials(const PinFolder& pins)
{
    if (!speaks_our_abi())
        return std::nullopt;
    const DenialTables::Maps maps{keep(pins.map("bh_denials_even")), keep(pins.map("bh_denials_odd")),
                                  keep(pins.map("bh_denials")), keep(pins.map("bh_denial_turn")),
                                  keep(pins.map("bh_denials_rest"))};
    for (const int fd : {maps.even, maps.odd, maps.outer, maps.turn, maps.rest})
        if (fd < 0)
            return std::nullopt;
    if (info_of(maps.even).value_size != sizeof(bh_denial) || info_of(maps.odd).value_size != sizeof(bh_denial))
        return std::nullopt;
    return DenialTables(maps);
}

Status pin_beside(const PinFolder& pins, bpf_object* object)
{
    remove_folder(next_folder(pins));
    if (::mkdir(next_folder(pins).c_str(), 0700) != 0)
        return fail_errno(errno, fmt::format("make {}", next_folder(pins)));
    return pin_maps(next_folder(pins), object);
}

Status finish_replacing_pins(const PinFolder& pins)
{
    const std::string maps = pins.path() + "/maps";
    // The control word comes last, so a folder that has it is whole.
    if (!exists(next_folder(pins) + "/" + control_map)) {
        remove_folder(next_folder(pins));
        return {};
    }
    if (exists(maps + "/" + control_map)) {
        remove_folder(old_folder(pins)); // of a change before this one, after which the gates were switched once more
        BULKHEAD_CHECK(rename_folder(maps, old_folder(pins)));
    } else {
        remove_folder(maps); // made empty by the start that finds this
    }
    return rename_folder(next_folder(pins), maps);
}

void remove_replaced_pins(const PinFolder& pins)
{
    remove_folder(old_folder(pins));
}

} // namespace bulkhead::agent
