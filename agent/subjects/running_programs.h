// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/file_identity.h"
#include "agent/enrich/proc_files.h"
#include "agent/subjects/kept_programs.h"

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
    // Who is behind the process: its mount namespace, if that is a container's whose root is root here, else a user.
    std::uint64_t container = 0; // 0: it is a user
    std::uint32_t user = 0;
};

// Of processes in cgroups at or below `cgroup` (a path below the mount). The path counts if the agent finds the file by
// it, or has found it (KeptPrograms), or if it is that of a mount which nobody could make who is not root here
// (TrustedMounts).
[[nodiscard]] std::vector<RunningProgram> running_programs(const ProcFiles& proc, const std::string& cgroup,
                                                           KeptPrograms& kept,
                                                           const std::function<bool(const std::string& path)>& wanted);

} // namespace bulkhead::agent
