// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/kept_programs.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

namespace bulkhead::agent {
namespace {

constexpr std::size_t max_kept = 512; // descriptors
constexpr std::ptrdiff_t max_of_one = 64;
constexpr auto ended_after = std::chrono::seconds(10); // not each look is for all policies, and one may come late

} // namespace

std::optional<std::uint32_t> KeptPrograms::device_of(OpenExecutable& open, std::uint32_t user,
                                                     const std::string& own_mountinfo)
{
    const auto& path = open.executable.path;
    const auto& file = open.shown.file;
    const auto place = open_place(path);
    const auto here = place ? show_file(place.get(), "", AT_EMPTY_PATH) : std::nullopt;
    const bool lies_here = here && here->file.device == file.device && here->file.inode == file.inode;
    const std::tuple key(path, file.device, file.inode);
    if (const auto known = kept_.find(key); known != kept_.end()) {
        known->second.seen = clock_.monotonic();
        return lies_here || open.shown.links == 0 ? std::optional(known->second.device) : std::nullopt;
    }
    if (!lies_here)
        return std::nullopt;
    const auto device = identify_file(*here, own_mountinfo).device;
    if (has_room(user))
        kept_.emplace(key, Kept{std::move(open.held), device, user, clock_.monotonic()});
    return device;
}

bool KeptPrograms::has_room(std::uint32_t user) const
{
    return kept_.size() < max_kept && std::count_if(kept_.begin(), kept_.end(), [user](const auto& entry) {
                                          return entry.second.user == user;
                                      }) < max_of_one;
}

void KeptPrograms::forget_ended()
{
    const auto now = clock_.monotonic();
    std::erase_if(kept_, [now](const auto& entry) { return now - entry.second.seen > ended_after; });
}

} // namespace bulkhead::agent
