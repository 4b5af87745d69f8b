// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/trusted_mounts.h"

#include "agent/enrich/mounts.h"

#include <unistd.h>

#include <fstream>

namespace bulkhead::agent {

TrustedMounts::TrustedMounts(const ProcFiles& proc, const std::vector<std::uint32_t>& pids)
    : proc_(proc), pids_(pids), self_(static_cast<std::uint32_t>(::getpid())),
      own_users_(proc.name_space(self_, "user"))
{}

std::optional<TrustedMounts::Found> TrustedMounts::find(std::uint64_t mount, std::uint32_t pid, const std::string& path)
{
    for (const auto member : {pid, self_, 1U}) {
        const auto* space = name_space_of(member);
        if (space == nullptr)
            continue; // it has ended, or nobody can be asked
        const auto found = space->mounts.find(mount);
        if (found == space->mounts.end())
            continue;
        // The number may have been given to another mount since the namespace was read, and users can bring that about
        // with mounts that they may take off (FUSE): `path` is not below the points of those.
        if (is_at_or_below(as_in_mountinfo(path), found->second.point))
            return Found{found->second.device,
                         proc_.root(member) == "/" ? proc_.path(member, "mountinfo") : space->mountinfo};
    }
    return std::nullopt;
}

const TrustedMounts::NameSpace* TrustedMounts::name_space_of(std::uint32_t pid)
{
    // Asked of each process, since a number is given away again: only what was read is remembered under it.
    const auto space = proc_.mount_name_space(pid);
    if (!space || space->owner != own_users_)
        return nullptr;
    auto known = known_.find(space->id);
    if (known == known_.end()) {
        auto mounts = read(space->id, pid);
        if (!mounts)
            return nullptr;
        known = known_.emplace(space->id, std::move(*mounts)).first;
    }
    return &known->second;
}

std::optional<TrustedMounts::NameSpace> TrustedMounts::read(std::uint64_t id, std::uint32_t pid)
{
    // mountinfo leaves out what lies outside of the root of the process, and shows the rest as seen from there.
    auto root = proc_.root(pid);
    if (root != "/")
        if (const auto other = with_the_whole_view(id)) {
            pid = *other;
            root = "/";
        }
    const auto top = root == "/" ? std::string{} : as_in_mountinfo(root);
    NameSpace space;
    space.mountinfo = proc_.path(pid, "mountinfo");
    std::ifstream lines(space.mountinfo);
    for (std::string line; std::getline(lines, line);)
        if (const auto mount = parse_mount(line)) {
            const bool is_top = mount->point == "/" && !top.empty();
            space.mounts[mount->id] = {mount->device, is_top ? top : top + std::string(mount->point)};
        }
    // Who ended, went elsewhere or changed his root meanwhile says nothing of the namespace; another may be asked. Who makes
    // himself a namespace never comes back into this one: if he is in it now, that is what was read.
    const auto now = proc_.mount_name_space(pid);
    if (!lines.eof() || space.mounts.empty() || !now || now->id != id || proc_.root(pid) != root)
        return std::nullopt;
    return space;
}

std::optional<std::uint32_t> TrustedMounts::with_the_whole_view(std::uint64_t id)
{
    if (!whole_views_) {
        whole_views_.emplace();
        for (const auto pid : pids_)
            if (const auto in = proc_.name_space(pid, "mnt");
                in && !whole_views_->contains(*in) && proc_.root(pid) == "/")
                whole_views_->emplace(*in, pid);
    }
    const auto found = whole_views_->find(id);
    return found == whole_views_->end() ? std::nullopt : std::optional(found->second);
}

} // namespace bulkhead::agent
