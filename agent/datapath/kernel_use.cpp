// SPDX-License-Identifier: Apache-2.0
// How much of the kernel's tables is used, and what they counted.
#include "agent/datapath/kernel_datapath.h"
#include "agent/datapath/map_entries.h"
#include "common/core/clock.h"

#include <netinet/in.h>

namespace bulkhead::agent {

Counters KernelDatapath::counters()
{
    static constexpr const char* names[] = {
        "flow_events",          "flow_lost",      "deny_events", "deny_lost",      "allowed_out",
        "allowed_in",           "denied_out",     "denied_in",   "would_deny_out", "would_deny_in",
        "listeners_full",       "udp_flows_full", "malformed",   "guard_packets",  "denied_forwarded",
        "would_deny_forwarded", "exchanges_full"};
    static_assert(std::size(names) == BH_COUNTERS);
    Counters counters;
    std::vector<std::uint64_t> per_cpu(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    for (std::uint32_t index = 0; index < BH_COUNTERS; ++index) {
        std::uint64_t sum = 0;
        if (bpf_map_lookup_elem(bpf_map__fd(parts_.skeleton->maps.bh_counters), &index, per_cpu.data()) == 0)
            for (const std::uint64_t one : per_cpu)
                sum += one;
        counters[names[index]] = sum;
    }
    return counters;
}

std::vector<MapUse> KernelDatapath::map_use()
{
    std::vector<MapUse> use;
    const auto& maps = parts_.skeleton->maps;
    const auto count_living = [&]<typename Key, typename Value>(const char* name, const bpf_map* map, Key, Value,
                                                                const auto& lives) {
        MapUse one{name, 0, bpf_map__max_entries(map)};
        for_each_entry<Key, Value>(bpf_map__fd(map), [&](const Key& key, const Value& value) {
            if (lives(key, value))
                ++one.entries;
        });
        use.push_back(std::move(one));
    };
    const auto count = [&](const char* name, const bpf_map* map, auto key, auto value) {
        count_living(name, map, key, value, [](const auto&, const auto&) { return true; });
    };
    count("listeners", maps.bh_listeners, bh_listener_key{}, bh_listener{});
    count("udp_out", maps.bh_udp_out, bh_udp_flow_key{}, bh_udp_flow{});
    count("udp_in", maps.bh_udp_in, bh_udp_flow_key{}, bh_udp_flow{});
    // Of these, what has ended makes room when that is needed.
    const auto now = static_cast<__u64>(system_clock().monotonic().count());
    const auto lives = [now](const bh_exchange_key& key, const bh_exchange& exchange) {
        return !is_over(key, exchange, now);
    };
    count_living("exchanges", maps.bh_exchanges, bh_exchange_key{}, bh_exchange{}, lives);
    count_living("spare_exchanges", maps.bh_spare_exchanges, bh_exchange_key{}, bh_exchange{}, lives);
    count_living(
        "translated", maps.bh_translated, bh_exchange_key{}, bh_translated{},
        [now](const bh_exchange_key&, const bh_translated& one) { return now < one.last_ns + BH_TRANSLATED_NS; });
    count_living("fragments", maps.bh_fragments, bh_fragment_key{}, __u64{},
                 [now](const bh_fragment_key&, __u64 passed) { return now < passed + BH_FRAGMENTS_LAST_NS; });
    count("own_addresses", maps.bh_own_addresses, bh_address{}, __u8{});
    count("own_elsewhere", maps.bh_own_elsewhere, bh_own_key{}, __u8{});
    count("denials_even", maps.bh_denials_even, bh_denial_key{}, bh_denial{});
    count("denials_odd", maps.bh_denials_odd, bh_denial_key{}, bh_denial{});
    use.push_back({"namespaces", parts_.namespaces.size(), BH_NAMESPACES});
    const auto rings = parts_.rings->use();
    use.push_back({"flow_ring", rings.flow_bytes, bpf_map__max_entries(maps.bh_flow_ring)});
    use.push_back({"deny_ring", rings.deny_bytes, bpf_map__max_entries(maps.bh_deny_ring)});
    if (in_force_.facets)
        use.push_back({"facets", in_force_.facets->size(), facet_rows});
    const auto plane = [&](const char* name, const Role& role) {
        if (!role.plane)
            return;
        for (const auto& [what, entries] :
             {std::pair{"peers", role.plane->peer_count}, std::pair{"prefixes", role.plane->prefix_count},
              std::pair{"entries", role.plane->entry_count}})
            use.push_back({fmt::format("{}_{}", name, what), entries, entries, true});
    };
    plane("active", in_force_.active);
    plane("shadow", in_force_.shadow);
    return use;
}

KernelListeners KernelDatapath::listeners()
{
    KernelListeners listeners;
    for_each_entry<bh_listener_key, bh_listener>(
        bpf_map__fd(parts_.skeleton->maps.bh_listeners),
        [&](const bh_listener_key& key, const bh_listener& listener) { listeners.emplace_back(key, listener); });
    return listeners;
}

} // namespace bulkhead::agent
