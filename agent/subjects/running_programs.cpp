// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/running_programs.h"

#include "agent/datapath/namespace_finder.h"
#include "agent/enrich/mounts.h"
#include "agent/subjects/trusted_mounts.h"

#include <fcntl.h>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

// What most processes run, and it saves reading mounts: the agent itself finds the file by that path.
bool is_found_here(const ProcExecutable& executable)
{
    if (!executable.file.is_on_block_device())
        return false;
    const auto place = open_place(executable.path);
    const auto here = place ? show_file(place.get(), "", AT_EMPTY_PATH) : std::nullopt;
    return here && here->file.device == executable.file.device && here->file.inode == executable.file.inode;
}

} // namespace

std::vector<RunningProgram> running_programs(const ProcFiles& proc, const std::string& cgroup,
                                             const std::function<bool(const std::string& path)>& wanted)
{
    const auto pids = proc.pids();
    TrustedMounts mounts(proc, pids);
    const auto own_users = proc.name_space(static_cast<std::uint32_t>(::getpid()), "user");
    const auto of_host = proc.name_space(1, "mnt");
    std::vector<RunningProgram> programs;
    for (const auto pid : pids) {
        // The link alone first: most processes run nothing that is wanted.
        const auto link = proc.executable_link(pid);
        if (link.empty() || (!wanted(link) && !wanted(without_deleted_mark(link))))
            continue;
        const auto open = proc.open_executable(pid);
        if (!open || !wanted(open->executable.path) || !is_at_or_below(proc.cgroup(pid), cgroup))
            continue;
        const auto& executable = open->executable;
        const auto space = proc.mount_name_space(pid);
        const auto uid = proc.real_uid(pid);
        if (!uid)
            continue; // it has ended
        RunningProgram program{executable.path, proc.path(pid, "exe"), proc.path(pid, "mountinfo"), executable.file};
        if (space && space->owner == own_users && space->id != of_host)
            program.container = space->id;
        else
            program.user = user_behind_process(pid, *uid);
        if (!is_found_here(executable)) {
            const auto mount = open->shown.mount ? mounts.find(*open->shown.mount, pid, executable.path) : std::nullopt;
            if (!mount)
                continue;
            program.file.device = mount->device;
            program.mountinfo = mount->mountinfo;
        }
        programs.push_back(std::move(program));
    }
    return programs;
}

} // namespace bulkhead::agent
