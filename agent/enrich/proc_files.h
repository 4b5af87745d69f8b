// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/file_identity.h"
#include "agent/enrich/patient_reader.h"
#include "common/core/unique_fd.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::agent {

struct ProcStat {
    std::uint32_t ppid = 0;
    std::uint64_t start_time = 0; // clock ticks since boot; with the pid it names a process for the life of the boot
    bool ended = false;           // a zombie: nobody has asked what became of it
};

struct ProcExecutable {
    std::string path;     // as the link says, without " (deleted)"
    bool deleted = false; // replaced or removed since it was started: what lies at `path` now is another file
    FileIdentity file;    // of what runs, not of what lies at `path`
};

// A program that a process runs, held open: no other mount gets the id meanwhile.
struct OpenExecutable {
    UniqueFd held;
    ProcExecutable executable;
    ShownFile shown;
};

struct MountNameSpace { // inode numbers, as name_space() gives them
    std::uint64_t id = 0;
    std::uint64_t owner = 0; // the user namespace in which CAP_SYS_ADMIN is needed to mount in it
};

// What processes show below /proc (proc(5)); empty when one is gone or hidden (hidepid). Every call reads anew, so two
// calls may see two programs of the same process.
class ProcFiles {
public:
    explicit ProcFiles(std::string root) : root_(std::move(root)) {}

    [[nodiscard]] std::vector<std::uint32_t> pids() const;
    [[nodiscard]] std::optional<ProcStat> stat(std::uint32_t pid) const;
    // Its path and file are of one program, whatever the process executes meanwhile. The device is as it is shown.
    [[nodiscard]] std::optional<OpenExecutable> open_executable(std::uint32_t pid) const;
    [[nodiscard]] std::string executable_link(std::uint32_t pid) const; // the text of the link alone
    [[nodiscard]] std::string comm(std::uint32_t pid) const;
    // Arguments joined by spaces, at most 1024 bytes. The process can overwrite them, so they prove nothing, and hold
    // up who reads them.
    [[nodiscard]] std::string command_line(std::uint32_t pid, PatientReader& reader) const;
    [[nodiscard]] std::optional<std::uint32_t> login_uid(std::uint32_t pid) const;
    // The owner of the folder is another one where the process must not be dumped.
    [[nodiscard]] std::optional<std::uint32_t> real_uid(std::uint32_t pid) const;
    [[nodiscard]] std::string cgroup(std::uint32_t pid) const; // the cgroup v2 path, begins with '/'
    // "mnt", "user"; equal numbers are the same namespace. nullopt when unknown.
    [[nodiscard]] std::optional<std::uint64_t> name_space(std::uint32_t pid, const std::string& kind) const;
    [[nodiscard]] std::optional<MountNameSpace> mount_name_space(std::uint32_t pid) const;
    [[nodiscard]] std::string root(std::uint32_t pid) const; // "/", unless it has changed it (chroot(2))
    [[nodiscard]] std::string path(std::uint32_t pid, const std::string& name) const;

private:
    std::string root_;
};

// " (deleted)" taken off the text of an exe link, where the kernel put it: a file may have that in its name.
[[nodiscard]] std::string without_deleted_mark(std::string link);

} // namespace bulkhead::agent
