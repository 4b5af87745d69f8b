// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/proc_files.h"

#include <map>
#include <unordered_map>

namespace bulkhead::agent {

// A file that runs is called as the mount says through which it was opened, and that may lie in a mount namespace that
// anybody has made: a descriptor from there can be executed elsewhere (fexecve(3)). So a path is believed only where
// mounting takes CAP_SYS_ADMIN in the agent's own user namespace: in mount namespaces that belong to it. The kernel
// says of a file only the number of its mount, hence they are looked through: that of the process, the agent's and the
// host's, from which the process may have come. Neither who owns the file counts nor what lies at the path by now.
//
// For one look: what was read is kept.
class TrustedMounts {
public:
    TrustedMounts(const ProcFiles& proc, const std::vector<std::uint32_t>& pids); // both borrowed

    struct Found {
        std::uint32_t device = 0;
        std::string mountinfo; // which has it
    };
    // The mount of a file that is held open and called `path`, and run by `pid`.
    [[nodiscard]] std::optional<Found> find(std::uint64_t mount, std::uint32_t pid, const std::string& path);

private:
    struct Trusted {
        std::uint32_t device = 0;
        std::string point; // from the root of its namespace, as mountinfo writes it
    };
    struct NameSpace {
        std::string mountinfo;
        std::unordered_map<std::uint64_t, Trusted> mounts;
    };
    const NameSpace* name_space_of(std::uint32_t pid);
    // Nothing: the process could not be asked to the end.
    [[nodiscard]] std::optional<NameSpace> read(std::uint64_t id, std::uint32_t pid);
    [[nodiscard]] std::optional<std::uint32_t> with_the_whole_view(std::uint64_t id);

    const ProcFiles& proc_;
    const std::vector<std::uint32_t>& pids_;
    std::uint32_t self_;
    std::optional<std::uint64_t> own_users_;
    std::map<std::uint64_t, NameSpace> known_;
    std::optional<std::map<std::uint64_t, std::uint32_t>> whole_views_; // by mount namespace, a process in it
};

} // namespace bulkhead::agent
