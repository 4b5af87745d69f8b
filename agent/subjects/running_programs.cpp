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

std::vector<RunningProgram> running_programs(const ProcFiles& proc, const std::string& cgroup, KeptPrograms& kept,
                                             const std::function<bool(const std::string& path)>& wanted)
{
    const auto pids = proc.pids();
    TrustedMounts mounts(proc, pids);
    const auto self = static_cast<std::uint32_t>(::getpid());
    const auto own_users = proc.name_space(self, "user");
    const auto of_host = proc.name_space(1, "mnt");
    std::vector<RunningProgram> programs;
    for (const auto pid : pids) {
        // The link alone first: most processes run nothing that is wanted.
        const auto link = proc.executable_link(pid);
        if (link.empty() || (!wanted(link) && !wanted(without_deleted_mark(link))))
            continue;
        auto open = proc.open_executable(pid);
        if (!open || !wanted(open->executable.path) || !is_at_or_below(proc.cgroup(pid), cgroup))
            continue;
        const auto& executable = open->executable;
        const auto space = proc.mount_name_space(pid);
        const auto uid = proc.real_uid(pid);
        if (!uid)
            continue; // it has ended
        RunningProgram program{executable.path, proc.path(pid, "exe"), proc.path(pid, "mountinfo"), executable.file};
        const bool mounts_as_root_here = space && space->owner == own_users;
        if (mounts_as_root_here && space->id != of_host)
            program.container = space->id;
        else
            program.user = user_behind_process(pid, *uid);
        const auto device =
            mounts_as_root_here ? std::nullopt : kept.device_of(*open, program.user, proc.path(self, "mountinfo"));
        if (device) {
            program.file.device = *device;
        } else if (!is_found_here(executable)) {
            const auto mount = open->shown.mount ? mounts.find(*open->shown.mount, pid, executable.path) : std::nullopt;
            if (!mount)
                continue;
            program.file.device = mount->device;
            program.mountinfo = mount->mountinfo;
        }
        programs.push_back(std::move(program));
    }
    kept.forget_ended();
    return programs;
}

} // namespace bulkhead::agent
