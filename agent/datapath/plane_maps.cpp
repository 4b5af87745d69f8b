// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/plane_maps.h"

#include "agent/datapath/at_once.h"

#include "common/core/clock.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <set>
#include <tuple>

namespace bulkhead::agent {

namespace {

// bpf(2) copies a whole batch; this bounds what it allocates at once.
constexpr std::size_t batch_size = 8192;
constexpr int kernel_enotsupp = 524; // include/linux/errno.h; reaches user space for want of a better one

Result<UniqueFd> create(bpf_map_type type, const char* name, std::size_t key, std::size_t value, std::size_t entries,
                        __u32 flags = 0)
{
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = flags);
    UniqueFd fd(bpf_map_create(type, name, static_cast<__u32>(key), static_cast<__u32>(value),
                               static_cast<__u32>(std::max<std::size_t>(entries, 1)), &options));
    if (!fd)
        return fail_errno(errno, fmt::format("create map {} of {} entries", name, entries));
    return fd;
}

template <typename Key, typename Value>
Status insert_all(int fd, const char* name, const std::vector<Key>& keys, const std::vector<Value>& values)
{
    std::size_t done = 0;
    while (done < keys.size()) {
        auto count = static_cast<__u32>(std::min(batch_size, keys.size() - done));
        if (bpf_map_update_batch(fd, keys.data() + done, values.data() + done, &count, nullptr) != 0) {
            // Prefix tries learned batches in 5.12.
            if (errno != kernel_enotsupp && errno != EOPNOTSUPP && errno != EINVAL)
                return fail_errno(errno, fmt::format("fill map {}", name));
            break;
        }
        done += count;
    }
    for (; done < keys.size(); ++done)
        if (bpf_map_update_elem(fd, &keys[done], &values[done], BPF_ANY) != 0)
            return fail_errno(errno, fmt::format("fill map {}", name));
    return {};
}

Result<UniqueFd> build_peers(const policy::PlaneImage& image)
{
    std::vector<bh_address> keys;
    std::vector<__u32> values;
    keys.reserve(image.exact.size());
    values.reserve(image.exact.size());
    for (const auto& [address, peer_class] : image.exact) {
        bh_address key{};
        std::memcpy(key.byte, address.bytes.data(), sizeof(key.byte));
        keys.push_back(key);
        values.push_back(peer_class);
    }
    BULKHEAD_TRY(auto fd, create(BPF_MAP_TYPE_HASH, "bh_peers", sizeof(bh_address), sizeof(__u32), keys.size()));
    BULKHEAD_CHECK(insert_all(fd.get(), "bh_peers", keys, values));
    return fd;
}

Result<UniqueFd> build_prefixes(const policy::PlaneImage& image)
{
    std::vector<bh_prefix_key> keys;
    std::vector<__u32> values;
    for (const auto& prefix : image.prefixes) {
        keys.push_back(prefix.key);
        values.push_back(prefix.peer_class);
    }
    BULKHEAD_TRY(auto fd, create(BPF_MAP_TYPE_LPM_TRIE, "bh_prefixes", sizeof(bh_prefix_key), sizeof(__u32),
                                 keys.size(), BPF_F_NO_PREALLOC));
    BULKHEAD_CHECK(insert_all(fd.get(), "bh_prefixes", keys, values));
    return fd;
}

Result<UniqueFd> build_ports(const policy::PlaneImage& image)
{
    if (image.port_classes.empty()) // a policy that names no port: new arrays hold zeroes, BH_PORT_ANY
        return create(BPF_MAP_TYPE_ARRAY, "bh_ports", sizeof(__u32), sizeof(bh_port_classes), BH_PORT_TABLES);
    if (image.port_classes.size() != BH_PORT_CLASS_ENTRIES)
        return fail(ErrorKind::invalid, "a plane image has {} port classes, not {}", image.port_classes.size(),
                    BH_PORT_CLASS_ENTRIES);
    BULKHEAD_TRY(auto fd,
                 create(BPF_MAP_TYPE_ARRAY, "bh_ports", sizeof(__u32), sizeof(bh_port_classes), BH_PORT_TABLES));
    for (__u32 table = 0; table < BH_PORT_TABLES; ++table)
        if (bpf_map_update_elem(fd.get(), &table, image.port_classes.data() + std::size_t{table} * BH_PORTS, BPF_ANY) !=
            0)
            return fail_errno(errno, "fill map bh_ports");
    return fd;
}

// How far the wall clock is ahead of the kernel's. Asked once for a plane: the stages of an entry have to stay in order.
__u64 wall_clock_offset()
{
    const auto ahead = system_clock().wall().time_since_epoch() - system_clock().monotonic();
    return static_cast<__u64>(std::max<std::int64_t>(ahead.count(), 0));
}

// The kernel's clock of a moment that is given in unix time. What has passed stays passed: 0 would mean for good.
__u64 to_monotonic(__u64 unix_ns, __u64 offset)
{
    return unix_ns > offset ? unix_ns - offset : 1;
}

// An entry that only names rules that have expired.
bool is_empty(const bh_entry& entry)
{
    const auto zero = [](__u64 word) { return word == 0; };
    return entry.failsafe == 0 && entry.stages == 0 &&
           std::all_of(std::begin(entry.allow), std::end(entry.allow), zero) &&
           std::all_of(std::begin(entry.deny), std::end(entry.deny), zero);
}

Result<UniqueFd> build_entries(const policy::PlaneImage& image)
{
    std::vector<bh_entry_key> keys;
    std::vector<bh_entry> values;
    const __u64 offset = wall_clock_offset();
    for (const auto& [key, cell] : image.entries) {
        if (is_empty(cell.entry))
            continue;
        keys.push_back(key);
        values.push_back(cell.entry);
        if (auto& until = values.back().until_ns; until != 0)
            until = to_monotonic(until, offset);
    }
    BULKHEAD_TRY(auto fd, create(BPF_MAP_TYPE_HASH, "bh_entries", sizeof(bh_entry_key), sizeof(bh_entry), keys.size()));
    BULKHEAD_CHECK(insert_all(fd.get(), "bh_entries", keys, values));
    return fd;
}

void note_shapes(const policy::PlaneImage& image, bh_plane_info& info)
{
    for (const auto& [key, cell] : image.entries) {
        const int shape = key.peer_class == BH_PEER_ANY
                              ? (key.port_class == BH_PORT_ANY ? BH_SHAPE_ANY_ANY : BH_SHAPE_ANY_PORT)
                              : (key.port_class == BH_PORT_ANY ? BH_SHAPE_PEER_ANY : BH_SHAPE_PEER_PORT);
        auto& shapes = info.shapes[key.direction & 1][BH_PROTOCOL_GROUP(key.protocol)];
        shapes = static_cast<__u8>(shapes | shape);
    }
}

auto order(const bh_facet_key& key)
{
    return std::tuple(key.facet, key.device, key.value);
}

} // namespace

Result<PlaneMaps> build_plane(const policy::PlaneImage& image, std::shared_ptr<const UniqueFd> facets)
{
    PlaneMaps plane;
    const auto fill = [&image](UniqueFd& map, Result<UniqueFd> (*build)(const policy::PlaneImage&)) {
        return [&image, &map, build]() -> Status {
            BULKHEAD_TRY(map, build(image));
            return {};
        };
    };
    plane.info = image.info;
    BULKHEAD_CHECK(at_once({fill(plane.peers, build_peers), fill(plane.prefixes, build_prefixes),
                            fill(plane.ports, build_ports), fill(plane.entries, build_entries)}));
    note_shapes(image, plane.info);
    plane.facets = std::move(facets);
    // From here on only the kernel's own programs may touch them, and those do not. What cannot be frozen is watched.
    for (const UniqueFd* map : {&plane.peers, &plane.prefixes, &plane.ports, &plane.entries})
        if (bpf_map_freeze(map->get()) != 0)
            log_debug("cannot freeze a map of a plane: errno {}", errno);
    plane.info.has_prefixes = image.prefixes.empty() ? 0 : 1;
    plane.peer_count = image.exact.size();
    plane.prefix_count = image.prefixes.size();
    plane.entry_count = image.entries.size();
    return plane;
}

Result<UniqueFd> build_facets(const FacetTable& rows)
{
    BULKHEAD_TRY(auto fd, create(BPF_MAP_TYPE_HASH, "bh_facets", sizeof(bh_facet_key), sizeof(bh_class_vector),
                                 facet_rows, BPF_F_NO_PREALLOC));
    for (const FacetRow& row : rows)
        if (bpf_map_update_elem(fd.get(), &row.key, &row.classes, BPF_ANY) != 0)
            return fail_errno(errno, fmt::format("fill map bh_facets with {} rows", rows.size()));
    return fd;
}

Status replace_facets(int table, const FacetTable& rows)
{
    std::set<decltype(order(bh_facet_key{}))> wanted;
    for (const FacetRow& row : rows) {
        if (bpf_map_update_elem(table, &row.key, &row.classes, BPF_ANY) != 0)
            return fail_errno(errno, "update map bh_facets");
        wanted.insert(order(row.key));
    }
    std::vector<bh_facet_key> stale;
    bh_facet_key key{}, next{};
    for (const bh_facet_key* previous = nullptr; bpf_map_get_next_key(table, previous, &next) == 0; previous = &key) {
        key = next;
        if (!wanted.contains(order(key)))
            stale.push_back(key);
    }
    for (const bh_facet_key& row : stale)
        if (bpf_map_delete_elem(table, &row) != 0 && errno != ENOENT)
            return fail_errno(errno, "update map bh_facets");
    return {};
}

PlaneSlots::PlaneSlots(const ::datapath& skeleton)
    : info_(bpf_map__fd(skeleton.maps.bh_plane_info)), peers_(bpf_map__fd(skeleton.maps.bh_plane_peers)),
      prefixes_(bpf_map__fd(skeleton.maps.bh_plane_prefixes)), ports_(bpf_map__fd(skeleton.maps.bh_plane_ports)),
      entries_(bpf_map__fd(skeleton.maps.bh_plane_entries)), facets_(bpf_map__fd(skeleton.maps.bh_plane_facets))
{}

Status PlaneSlots::fill(const Filling& slots) const
{
    // Every change of a map of maps waits for a grace period of RCU (about 10 ms). Side by side, all wait for the same
    // one.
    std::vector<std::function<Status()>> changes;
    for (const auto& [slot, plane] : slots) {
        if (bpf_map_update_elem(info_, &slot, &plane->info, BPF_ANY) != 0)
            return fail_errno(errno, "write bh_plane_info");
        const std::array<int, 5> inners = {plane->peers.get(), plane->prefixes.get(), plane->ports.get(),
                                           plane->entries.get(), plane->facets->get()};
        for (std::size_t i = 0; i < inners.size(); ++i)
            changes.emplace_back([slot = slot, outer = outers()[i], inner = inners[i]]() -> Status {
                if (bpf_map_update_elem(outer, &slot, &inner, BPF_ANY) != 0)
                    return fail_errno(errno, fmt::format("put a plane into slot {}", slot));
                return {};
            });
    }
    return at_once(changes);
}

void PlaneSlots::vacate(const std::vector<std::uint32_t>& slots) const
{
    std::vector<std::function<Status()>> changes;
    for (const std::uint32_t slot : slots)
        for (const int outer : outers()) {
            __u32 id = 0;
            if (bpf_map_lookup_elem(outer, &slot, &id) != 0)
                continue; // it is free
            changes.emplace_back([slot, outer]() -> Status {
                (void)bpf_map_delete_elem(outer, &slot);
                return {};
            });
        }
    (void)at_once(changes);
}

Status PlaneSlots::wait_for_readers(const UniqueFd* peers, std::uint32_t slot) const
{
    // A change of a map of maps returns only after synchronize_rcu() (maybe_wait_bpf_programs in kernel/bpf/syscall.c),
    // and all hooks run inside RCU read sections.
    UniqueFd scratch;
    if (peers == nullptr) {
        BULKHEAD_TRY(scratch, create(BPF_MAP_TYPE_HASH, "bh_scratch", sizeof(bh_address), sizeof(__u32), 1));
        peers = &scratch;
    }
    const int inner = peers->get();
    if (bpf_map_update_elem(peers_, &slot, &inner, BPF_ANY) != 0)
        return fail_errno(errno, "wait for decisions under way");
    return {};
}

bh_plane_info PlaneSlots::info_of(std::uint32_t slot) const
{
    bh_plane_info info{};
    (void)bpf_map_lookup_elem(info_, &slot, &info); // an array: every slot below BH_SLOTS is there
    return info;
}

Result<UniqueFd> PlaneSlots::facets_of(std::uint32_t slot) const
{
    __u32 id = 0;
    if (bpf_map_lookup_elem(facets_, &slot, &id) != 0)
        return fail_errno(errno, fmt::format("find the facets of slot {}", slot));
    UniqueFd fd(bpf_map_get_fd_by_id(id));
    if (!fd)
        return fail_errno(errno, fmt::format("open the facets of slot {}", slot));
    return fd;
}

std::array<__u32, 5> PlaneSlots::ids_in(std::uint32_t slot) const
{
    std::array<__u32, 5> ids{};
    for (std::size_t i = 0; i < ids.size(); ++i)
        if (bpf_map_lookup_elem(outers()[i], &slot, &ids[i]) != 0)
            ids[i] = 0;
    return ids;
}

Result<PlaneSlots::Content> PlaneSlots::content_of(std::uint32_t slot) const
{
    Content content{slot, info_of(slot), ids_in(slot), {}};
    for (std::size_t i = 0; i < content.ids.size(); ++i) {
        content.maps[i] = UniqueFd(bpf_map_get_fd_by_id(content.ids[i]));
        if (!content.maps[i])
            return fail_errno(errno, fmt::format("open the maps of slot {}", slot));
    }
    return content;
}

bool PlaneSlots::holds(const Content& content) const
{
    const bh_plane_info info = info_of(content.slot);
    return std::memcmp(&info, &content.info, sizeof(info)) == 0 && ids_in(content.slot) == content.ids;
}

Status PlaneSlots::put_back(const Content& content) const
{
    if (bpf_map_update_elem(info_, &content.slot, &content.info, BPF_ANY) != 0)
        return fail_errno(errno, "write bh_plane_info");
    const auto ids = ids_in(content.slot);
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const int inner = content.maps[i].get();
        if (ids[i] != content.ids[i] && bpf_map_update_elem(outers()[i], &content.slot, &inner, BPF_ANY) != 0)
            return fail_errno(errno, fmt::format("put a plane back into slot {}", content.slot));
    }
    return {};
}

Result<ControlWord> ControlWord::map(int fd)
{
    void* page =
        ::mmap(nullptr, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return fail_errno(errno, "map the control word");
    return ControlWord(static_cast<std::uint64_t*>(page));
}

ControlWord::ControlWord(ControlWord&& other) noexcept : word_(std::exchange(other.word_, nullptr)) {}

ControlWord::~ControlWord()
{
    if (word_ != nullptr)
        ::munmap(word_, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
}

bh_control ControlWord::load() const
{
    const std::uint64_t word = std::atomic_ref<std::uint64_t>(*word_).load(std::memory_order_acquire);
    bh_control control{};
    std::memcpy(&control, &word, sizeof(control));
    return control;
}

void ControlWord::store(const bh_control& control)
{
    std::uint64_t word = 0;
    std::memcpy(&word, &control, sizeof(word));
    // Release: a program that sees the new slots sees what was put into them.
    std::atomic_ref<std::uint64_t>(*word_).store(word, std::memory_order_release);
}

} // namespace bulkhead::agent
