// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/proc_files.h"
#include "common/core/clock.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>

namespace bulkhead::agent {

// Programs that processes in user namespaces of their own run. By mounts of theirs such a process can call its program
// as it likes, so that the path counts only while the agent finds the very file by it, and nobody can say where one was
// that has been replaced or removed. Hence what was found at its path is held open from then on: as long as it is, no
// other file has its inode number, and whoever runs a file of that number runs this one.
class KeptPrograms {
public:
    explicit KeptPrograms(const Clock& clock) : clock_(clock) {}

    // The kernel's device of a program that `user` runs, whose path counts: it lies there, as the agent's own view has
    // it, or lay there at an earlier look and has no name any more. What was moved is called as it is now, or not at
    // all.
    [[nodiscard]] std::optional<std::uint32_t> device_of(OpenExecutable& open, std::uint32_t user,
                                                         const std::string& own_mountinfo);
    // Of those that nobody runs any more, or asks for. After a look.
    void forget_ended();

private:
    struct Kept {
        UniqueFd held;
        std::uint32_t device = 0;
        std::uint32_t user = 0; // who ran it first
        MonotonicTime seen{};
    };
    [[nodiscard]] bool has_room(std::uint32_t user) const;

    const Clock& clock_;
    std::map<std::tuple<std::string, std::uint32_t, std::uint64_t>, Kept> kept_; // by path, device as shown, inode
};

} // namespace bulkhead::agent
