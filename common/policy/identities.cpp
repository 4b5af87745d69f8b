// SPDX-License-Identifier: Apache-2.0
#include "common/policy/compile.h"
#include "common/policy/label_index.h"

#include <algorithm>
#include <unordered_set>

namespace bulkhead::policy {
namespace {

std::unordered_set<std::string> names_in_rules(const PolicySet& policy)
{
    std::unordered_set<std::string> names;
    for (const auto& segment : policy.segments)
        for (const auto& rule : segment.rules)
            for (const auto* side : {&rule.from, &rule.to})
                if (*side && (*side)->workload)
                    names.insert(*(*side)->workload);
    return names;
}

std::vector<const Workload*> by_name(const Inventory& inventory)
{
    std::vector<const Workload*> sorted;
    sorted.reserve(inventory.workloads.size());
    for (const auto& workload : inventory.workloads)
        sorted.push_back(&workload);
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
    return sorted;
}

} // namespace

Inventory merge_declared(Inventory inventory, const PolicySet& policy)
{
    std::unordered_map<std::string, std::size_t> positions;
    for (std::size_t i = 0; i < inventory.workloads.size(); ++i)
        positions.emplace(inventory.workloads[i].name, i);
    for (const auto& declared : policy.workloads) {
        const auto [found, is_new] = positions.emplace(declared.name, inventory.workloads.size());
        if (is_new)
            inventory.workloads.push_back({declared.name, {}, {}});
        auto& workload = inventory.workloads[found->second];
        for (const auto& [key, value] : declared.labels)
            workload.labels[key] = value;
        for (const auto& address : declared.addresses)
            if (std::find(workload.addresses.begin(), workload.addresses.end(), address) == workload.addresses.end())
                workload.addresses.push_back(address);
    }
    return inventory;
}

Identities build_identities(const PolicySet& policy, const Inventory& merged, const IdentityNumbering& number)
{
    const auto named = names_in_rules(policy);
    const SegmentIndex segments(policy.segments);
    Identities result;
    std::map<std::pair<Labels, std::string>, IdentityId> known;
    result.addresses.reserve(merged.workloads.size());
    for (const auto* workload : by_name(merged)) {
        const auto name = named.contains(workload->name) ? workload->name : std::string();
        auto [position, is_new] = known.try_emplace({workload->labels, name}, 0);
        if (is_new) {
            position->second = number(workload->labels, name);
            Identity identity{position->second, workload->labels, name, {}};
            for (const auto* segment : segments.containing(workload->labels))
                identity.segments.push_back(segment->name);
            result.identities.push_back(std::move(identity));
        }
        for (const auto& address : workload->addresses)
            result.addresses.try_emplace(address, AddressEntry{position->second, workload->name});
    }
    std::sort(result.identities.begin(), result.identities.end(),
              [](const Identity& a, const Identity& b) { return a.id < b.id; });
    return result;
}

} // namespace bulkhead::policy
