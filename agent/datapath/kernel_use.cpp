// SPDX-License-Identifier: Apache-2.0
// How much of the kernel's tables is used, and what they counted.
#include "agent/datapath/kernel_datapath.h"
#include "agent/datapath/map_entries.h"

namespace bulkhead::agent {

Counters KernelDatapath::counters()
{
    static constexpr const char* names[] = {
        "flow_events", "flow_lost",     "deny_events",      "deny_lost",           "allowed_out",    "allowed_in",
        "denied_out",  "denied_in",     "would_deny_out",   "would_deny_in",       "listeners_full", "udp_flows_full",
        "malformed",   "guard_packets", "denied_forwarded", "would_deny_forwarded"};
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
    const auto count = [&]<typename Key>(const char* name, const bpf_map* map, Key) {
        MapUse one{name, 0, bpf_map__max_entries(map)};
        for_each_key<Key>(bpf_map__fd(map), [&](const Key&) { ++one.entries; });
        use.push_back(std::move(one));
    };
    count("listeners", maps.bh_listeners, bh_listener_key{});
    count("udp_out", maps.bh_udp_out, bh_udp_flow_key{});
    count("udp_in", maps.bh_udp_in, bh_udp_flow_key{});
    count("exchanges", maps.bh_exchanges, bh_exchange_key{});
    count("denials_even", maps.bh_denials_even, bh_denial_key{});
    count("denials_odd", maps.bh_denials_odd, bh_denial_key{});
    use.push_back({"namespaces", parts_.namespaces.size(), BH_NAMESPACES});
    // Inner maps are made as large as what is in them.
    const auto plane = [&](const char* name, const Role& role) {
        if (!role.plane)
            return;
        for (const auto& [what, entries] :
             {std::pair{"peers", role.plane->peer_count}, std::pair{"prefixes", role.plane->prefix_count},
              std::pair{"entries", role.plane->entry_count}})
            use.push_back({fmt::format("{}_{}", name, what), entries, entries});
    };
    plane("active", in_force_.active);
    plane("shadow", in_force_.shadow);
    return use;
}

} // namespace bulkhead::agent
