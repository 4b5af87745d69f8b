// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/file_identity.h"
#include "agent/enrich/proc_files.h"

#include <functional>
#include <string>
#include <vector>

namespace bulkhead::agent {

// A program file that a process runs, by the path under which the process started it: finds what the agent's own view
// of the file system does not show, programs inside containers and those replaced by an upgrade while they run.
struct RunningProgram {
    std::string path;
    std::string link; // /proc/PID/exe, which opens the file itself
    std::string mountinfo;
    FileIdentity file;
};

// Of processes in cgroups at or below `cgroup` (a path below the mount). A process in another mount namespace counts
// only in our user namespace: anybody can make a user namespace and mount what he likes at any path in it, while inside
// ours that takes CAP_SYS_ADMIN. Nor does a file that is called so by such a mount alone, and was executed here.
[[nodiscard]] std::vector<RunningProgram> running_programs(const ProcFiles& proc, const std::string& cgroup,
                                                           const std::function<bool(const std::string& path)>& wanted);

} // namespace bulkhead::agent
