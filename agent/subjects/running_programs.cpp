// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/running_programs.h"

#include <unistd.h>

namespace bulkhead::agent {
namespace {

bool is_at_or_below(const std::string& path, const std::string& top)
{
    return top == "/" || path == top || path.starts_with(top + "/");
}

} // namespace

std::vector<RunningProgram> running_programs(const ProcFiles& proc, const std::string& cgroup,
                                             const std::function<bool(const std::string& path)>& wanted)
{
    const auto self = static_cast<std::uint32_t>(::getpid());
    const auto own_mounts = proc.name_space(self, "mnt");
    const auto own_users = proc.name_space(self, "user");
    std::vector<RunningProgram> programs;
    for (const auto pid : proc.pids()) {
        // The link alone first: most processes run nothing that is wanted.
        const auto link = proc.executable_link(pid);
        if (link.empty() || (!wanted(link) && !wanted(without_deleted_mark(link))))
            continue;
        const auto executable = proc.executable(pid);
        if (!executable || !wanted(executable->path) || !is_at_or_below(proc.cgroup(pid), cgroup))
            continue;
        const auto mounts = proc.name_space(pid, "mnt");
        if (!mounts || (mounts != own_mounts && proc.name_space(pid, "user") != own_users))
            continue;
        programs.push_back({executable->path, proc.path(pid, "exe"), proc.path(pid, "mountinfo"), executable->file});
    }
    return programs;
}

} // namespace bulkhead::agent
