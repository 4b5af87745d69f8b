// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/running_programs.h"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>

namespace bulkhead::agent {
namespace {

bool is_at_or_below(const std::string& path, const std::string& top)
{
    return top == "/" || path == top || path.starts_with(top + "/");
}

std::optional<struct stat> look_at(const std::string& path)
{
    struct stat seen {};
    return ::stat(path.c_str(), &seen) == 0 ? std::optional(seen) : std::nullopt;
}

// The link names a file as the mount says through which it was opened, and that may be one of a mount namespace that
// anybody has made: a descriptor from there can be executed here (fexecve(3)). So the path has to lead to the file, as
// the agent sees it or, `in_its_root`, the process. A program that an upgrade has replaced leads nowhere any more; it
// is taken for what it was if it belongs to whom its successor belongs to, or, with no successor, to root.
bool is_what_it_is_called(const ProcFiles& proc, std::uint32_t pid, const ProcExecutable& executable, bool in_its_root)
{
    const auto running = look_at(proc.path(pid, "exe"));
    if (!running)
        return false;
    auto there = look_at(executable.path);
    const auto is_it = [&] { return there && there->st_dev == running->st_dev && there->st_ino == running->st_ino; };
    if (is_it())
        return true;
    if (in_its_root) {
        there = look_at(proc.path(pid, "root") + executable.path);
        if (is_it())
            return true;
    }
    return executable.deleted && running->st_uid == (there ? there->st_uid : 0);
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
        const bool elsewhere = mounts != own_mounts;
        if (!mounts || (elsewhere && proc.name_space(pid, "user") != own_users))
            continue;
        if (!is_what_it_is_called(proc, pid, *executable, elsewhere))
            continue;
        programs.push_back({executable->path, proc.path(pid, "exe"), proc.path(pid, "mountinfo"), executable->file});
    }
    return programs;
}

} // namespace bulkhead::agent
