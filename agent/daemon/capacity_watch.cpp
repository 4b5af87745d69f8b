// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/capacity_watch.h"

namespace bulkhead::agent {
namespace {

constexpr std::uint64_t full = 80, room = 70; // percent

} // namespace

std::vector<std::string> CapacityWatch::look(const std::vector<MapUse>& use)
{
    std::vector<std::string> news;
    for (const auto& map : use) {
        if (map.sized_to_content || map.capacity == 0)
            continue;
        const auto known = standing_.find(map.name);
        if (map.entries * 100 < map.capacity * (known == standing_.end() ? full : room)) {
            if (known != standing_.end())
                standing_.erase(known);
            continue;
        }
        auto words = fmt::format("{}: {} of {} in use", map.name, map.entries, map.capacity);
        if (known == standing_.end())
            news.push_back(words);
        standing_[map.name] = std::move(words);
    }
    return news;
}

std::vector<std::string> CapacityWatch::standing() const
{
    std::vector<std::string> all;
    for (const auto& [name, words] : standing_)
        all.push_back(words);
    return all;
}

} // namespace bulkhead::agent
