// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/listener_watch.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <utility>

namespace bulkhead::agent {
namespace {

constexpr std::size_t files_a_look = 512; // of many owners some are looked at in each look

bool has_ended(std::uint32_t pid)
{
    return ::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH; // EPERM: it is there
}

} // namespace

// To kill(2) they are there.
void ListenerWatch::look_for_zombies(const std::vector<std::uint32_t>& pids)
{
    std::erase_if(zombies_, [&](std::uint32_t pid) { return !std::binary_search(pids.begin(), pids.end(), pid); });
    for (std::size_t i = 0; i < std::min(files_a_look, pids.size()); ++i) {
        const auto pid = pids[looked_at_++ % pids.size()];
        const auto stat = proc_.stat(pid);
        if (stat && stat->ended)
            zombies_.insert(pid);
        else
            zombies_.erase(pid);
    }
}

bool ListenerWatch::owner_ended(const KernelListeners& listeners)
{
    std::vector<std::uint32_t> pids;
    pids.reserve(listeners.size());
    for (const auto& [key, listener] : listeners)
        if (listener.owner.pid != 0)
            pids.push_back(listener.owner.pid);
    std::sort(pids.begin(), pids.end());
    pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
    look_for_zombies(pids);
    std::erase_if(pids, [this](std::uint32_t pid) { return !zombies_.contains(pid) && !has_ended(pid); });
    const auto before = std::exchange(ended_, std::move(pids));
    return !std::includes(before.begin(), before.end(), ended_.begin(), ended_.end());
}

bool owned_by_any(const KernelListeners& listeners, std::span<const FacetRow> rows)
{
    std::set<std::pair<std::uint32_t, std::uint64_t>> programs; // by device and inode
    std::set<std::uint64_t> cgroups;
    for (const auto& [key, classes] : rows) {
        if (key.facet == BH_FACET_EXECUTABLE)
            programs.emplace(key.device, key.value);
        else if (key.facet == BH_FACET_CGROUP)
            cgroups.insert(key.value);
    }
    return std::any_of(listeners.begin(), listeners.end(), [&](const auto& entry) {
        const bh_listener& listener = entry.second;
        return programs.contains({listener.owner.exe_device, listener.owner.exe_inode}) ||
               std::any_of(std::begin(listener.cgroups.id), std::end(listener.cgroups.id),
                           [&](std::uint64_t id) { return cgroups.contains(id); });
    });
}

} // namespace bulkhead::agent
