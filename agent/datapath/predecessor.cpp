// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/predecessor.h"

#include "agent/datapath/map_entries.h"
#include "common/core/clock.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>

namespace bulkhead::agent {

namespace {

namespace fs = std::filesystem;

constexpr const char* unfinished_control_pin = "bh_control_of_unfinished";

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

Status rename(const std::string& from, const std::string& to)
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

void forget_generation(std::uint8_t&) {} // no more has an address

void forget_generation(std::uint64_t&) {} // nor a time

// An exchange that is over would take the place of one that lives (map_entries.h).
template <typename Key, typename Value>
bool is_over(const Key&, const Value&, std::uint64_t)
{
    return false;
}

// Than the copy of before: its programs have kept it up since.
bool is_newer(const bh_exchange& theirs, const bh_exchange& ours)
{
    return theirs.last_ns > ours.last_ns;
}

bool is_newer(std::uint64_t theirs, std::uint64_t ours)
{
    return theirs > ours;
}

template <typename Value>
bool is_newer(const Value&, const Value&)
{
    return false;
}

// Those of the map of this name for which `to_of` has a map. Whether all are there; also if they were before.
template <typename Key, typename Value>
bool copy_entries(const std::string& folder, const char* name, const std::function<const bpf_map*(const Key&)>& to_of,
                  const std::function<void(const Key&)>& on_copy)
{
    const UniqueFd from(bpf_obj_get((folder + "/" + name).c_str()));
    if (!from)
        return false;
    const auto info = info_of(from.get());
    if (info.key_size != sizeof(Key) || info.value_size != sizeof(Value))
        return false;
    bool all = true;
    const auto now = static_cast<std::uint64_t>(system_clock().monotonic().count());
    const bool read = for_each_entry<Key, Value>(from.get(), [&](const Key& key, const Value& value) {
        if (is_over(key, value, now))
            return;
        const int to = bpf_map__fd(to_of(key));
        Value copy = value;
        forget_generation(copy);
        if (bpf_map_update_elem(to, &key, &copy, BPF_NOEXIST) == 0) // when full: it is judged as new
            on_copy(key);
        else if (errno != EEXIST)
            all = false;
        else if (Value ours{}; bpf_map_lookup_elem(to, &key, &ours) == 0 && is_newer(value, ours))
            (void)bpf_map_update_elem(to, &key, &copy, BPF_EXIST);
    });
    return read && all;
}

template <typename Key, typename Value>
bool copy_entries(const std::string& folder, const bpf_map* to, const std::function<void(const Key&)>& on_copy)
{
    return copy_entries<Key, Value>(
        folder, bpf_map__name(to), [to](const Key&) { return to; }, on_copy);
}

// Our programs may be giving places already: what holds one keeps it.
template <typename Key, typename Value>
void give_place(const bpf_map* places, const bpf_map* held_by, __u32& taken, const Key& key)
{
    for (int tries = 0; tries < 64; ++tries) {
        const __u32 at = taken++ * 40503 % bpf_map__max_entries(places); // odd, and that is a power of two
        Key holder{};
        if (Value value{}; bpf_map_lookup_elem(bpf_map__fd(places), &at, &holder) == 0 &&
                           bpf_map_lookup_elem(bpf_map__fd(held_by), &holder, &value) == 0)
            continue;
        (void)bpf_map_update_elem(bpf_map__fd(places), &at, &key, BPF_ANY);
        return;
    }
}

// Each conversation has a place (bpf/udp_flows.h). Scattered, so that whoever looks for one soon meets a free one.
void copy_conversations(const std::string& folder, const bpf_map* to, const bpf_map* places, __u32& taken)
{
    (void)copy_entries<bh_udp_flow_key, bh_udp_flow>(folder, to, [&](const bh_udp_flow_key& key) {
        give_place<bh_udp_flow_key, bh_udp_flow>(places, to, taken, key);
    });
}

} // namespace

Predecessor::Predecessor(std::string folder, std::string difference)
    : folder_(std::move(folder)), difference_(std::move(difference))
{
    const UniqueFd fd(bpf_obj_get((folder_ + "/" + control_pin).c_str()));
    bh_control control{};
    const __u32 zero = 0;
    if (fd && info_of(fd.get()).value_size == sizeof(control) && bpf_map_lookup_elem(fd.get(), &zero, &control) == 0)
        control_ = control;
}

Predecessor Predecessor::find(const PinFolder& pins, std::string difference)
{
    return {pins.path() + "/maps", std::move(difference)};
}

std::optional<Predecessor> Predecessor::find_replaced(const PinFolder& pins)
{
    if (!exists(old_folder(pins)))
        return std::nullopt;
    return Predecessor(old_folder(pins), {});
}

void Predecessor::look_for_pins(const PinFolder& pins)
{
    if (exists(old_folder(pins)))
        folder_ = old_folder(pins);
}

bool Predecessor::enforces() const
{
    return !control_ || control_->active_slot != BH_SLOT_NONE || control_->shadow_slot != BH_SLOT_NONE;
}

std::optional<std::uint32_t> Predecessor::generation() const
{
    if (!speaks_our_abi())
        return std::nullopt;
    if ((control_->flags & BH_CONTROL_TRIAL) == 0)
        return control_->generation;
    const UniqueFd fd(bpf_obj_get((folder_ + "/bh_plane_info").c_str()));
    const __u32 slot = control_->active_slot;
    bh_plane_info info{};
    if (!fd || info_of(fd.get()).value_size != sizeof(info) || bpf_map_lookup_elem(fd.get(), &slot, &info) != 0)
        return std::nullopt;
    return info.then_generation;
}

bool Predecessor::listeners_fit(const ::datapath& skeleton) const
{
    const UniqueFd theirs(bpf_obj_get((folder_ + "/" + bpf_map__name(skeleton.maps.bh_listeners)).c_str()));
    std::size_t count = 0;
    if (theirs && speaks_our_abi() && info_of(theirs.get()).key_size == sizeof(bh_listener_key))
        for_each_key<bh_listener_key>(theirs.get(), [&](const auto&) { ++count; });
    return count <= bpf_map__max_entries(skeleton.maps.bh_listeners);
}

// What walks have entered while the other version decided is older than what that knows.
bool Predecessor::hand_over_listeners(::datapath& skeleton, std::chrono::nanoseconds kept_since) const
{
    if (!speaks_our_abi())
        return false;
    const int ours = bpf_map__fd(skeleton.maps.bh_listeners);
    std::vector<bh_listener_key> old;
    const bool read = for_each_entry<bh_listener_key, bh_listener>(ours, [&](const auto& key, const auto& listener) {
        if (listener.since_ns < static_cast<__u64>(kept_since.count()))
            old.push_back(key);
    });
    for (const auto& key : old) {
        bh_listener now{}; // a socket may take the key just now
        if (bpf_map_lookup_elem(ours, &key, &now) == 0 && now.since_ns < static_cast<__u64>(kept_since.count()))
            (void)bpf_map_delete_elem(ours, &key);
    }
    return read && copy_entries<bh_listener_key, bh_listener>(folder_, skeleton.maps.bh_listeners, [](const auto&) {});
}

void Predecessor::hand_over_addresses(::datapath& skeleton) const
{
    if (speaks_our_abi())
        (void)copy_entries<bh_own_key, std::uint8_t>(folder_, skeleton.maps.bh_own_elsewhere, [](const auto&) {});
}

void Predecessor::hand_over_conversations(::datapath& skeleton)
{
    if (!speaks_our_abi())
        return;
    copy_conversations(folder_, skeleton.maps.bh_udp_out, skeleton.maps.bh_udp_out_places, places_taken_);
    copy_conversations(folder_, skeleton.maps.bh_udp_in, skeleton.maps.bh_udp_in_places, places_taken_);
    hand_over_exchanges(skeleton);
}

// All were in one table once. Which need a place only policy knows; those of TCP do not.
void Predecessor::hand_over_exchanges(::datapath& skeleton)
{
    if (!speaks_our_abi())
        return;
    const auto& maps = skeleton.maps;
    // Of connections that are older, nobody remembers who began them.
    (void)copy_entries<std::uint32_t, std::uint64_t>(folder_, maps.bh_in_force_since, [](auto) {});
    for (const bpf_map* from : {maps.bh_exchanges, maps.bh_spare_exchanges})
        (void)copy_entries<bh_exchange_key, bh_exchange>(
            folder_, bpf_map__name(from),
            [&](const auto& key) {
                const bool spare = from == maps.bh_spare_exchanges || key.protocol == IPPROTO_TCP;
                return spare ? maps.bh_spare_exchanges : maps.bh_exchanges;
            },
            [&](const auto& key) {
                if (from != maps.bh_spare_exchanges && key.protocol != IPPROTO_TCP)
                    give_place<bh_exchange_key, bh_exchange>(maps.bh_exchange_places, maps.bh_exchanges, places_taken_,
                                                             key);
            });
}

int Predecessor::keep(const std::string& map)
{
    kept_.emplace_back(bpf_obj_get((folder_ + "/" + map).c_str()));
    return kept_.back().get();
}

std::unique_ptr<Rings> Predecessor::rings()
{
    if (!speaks_our_abi())
        return nullptr;
    auto opened = Rings::open(keep("bh_flow_ring"), keep("bh_deny_ring"));
    return opened ? std::move(*opened) : nullptr;
}

std::optional<DenialTables> Predecessor::denials()
{
    if (!speaks_our_abi())
        return std::nullopt;
    const DenialTables::Maps maps{keep("bh_denials_even"), keep("bh_denials_odd"), keep("bh_denials"),
                                  keep("bh_denial_turn"), keep("bh_denials_rest")};
    for (const int fd : {maps.even, maps.odd, maps.outer, maps.turn, maps.rest})
        if (fd < 0)
            return std::nullopt;
    if (info_of(maps.even).value_size != sizeof(bh_denial) || info_of(maps.odd).value_size != sizeof(bh_denial))
        return std::nullopt;
    return DenialTables(maps);
}

Status pin_beside(const PinFolder& pins, bpf_object* object)
{
    unpin_beside(pins);
    if (::mkdir(next_folder(pins).c_str(), 0700) != 0)
        return fail_errno(errno, fmt::format("make {}", next_folder(pins)));
    auto pinned = pin_maps(next_folder(pins), object, unfinished_control_pin);
    if (!pinned)
        unpin_beside(pins);
    return pinned;
}

void unpin_beside(const PinFolder& pins)
{
    remove_folder(next_folder(pins));
}

Status make_beside_whole(const PinFolder& pins)
{
    return rename(next_folder(pins) + "/" + unfinished_control_pin, next_folder(pins) + "/" + control_pin);
}

Status finish_replacing_pins(const PinFolder& pins)
{
    const std::string maps = pins.path() + "/maps";
    if (!exists(next_folder(pins) + "/" + control_pin)) {
        unpin_beside(pins);
        return {};
    }
    if (exists(maps + "/" + control_pin)) {
        remove_folder(old_folder(pins)); // of a change before this one, after which the gates were switched once more
        BULKHEAD_CHECK(rename(maps, old_folder(pins)));
    } else {
        remove_folder(maps); // made empty by the start that finds this
    }
    return rename(next_folder(pins), maps);
}

void remove_replaced_pins(const PinFolder& pins)
{
    remove_folder(old_folder(pins));
}

} // namespace bulkhead::agent
