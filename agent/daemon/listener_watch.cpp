// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/listener_watch.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <set>
#include <utility>

namespace bulkhead::agent {
namespace {

bool has_ended(std::uint32_t pid)
{
    return ::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH; // EPERM: it is there
}

} // namespace

bool ListenerWatch::owner_ended(const KernelListeners& listeners)
{
    std::vector<std::uint32_t> pids;
    pids.reserve(listeners.size());
    for (const auto& [key, listener] : listeners)
        if (listener.owner.pid != 0)
            pids.push_back(listener.owner.pid);
    std::sort(pids.begin(), pids.end());
    pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
    std::erase_if(pids, [](std::uint32_t pid) { return !has_ended(pid); });
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
