// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/enrich/proc_files.h"

#include <cstdint>
#include <set>
#include <span>
#include <vector>

namespace bulkhead::agent {

// What comes to a socket is judged by its owner as the kernel's table has it. When that one has ended and others hold
// the socket (a program that is upgraded while it runs), only a walk shows who has inherited it: it is not to be judged
// by the dead for long.
class ListenerWatch {
public:
    // True when an owner has ended since the last look. Told once: a socket that nobody holds at the moment has a dead
    // one for as long as that is so.
    [[nodiscard]] bool owner_ended(const KernelListeners& listeners);

private:
    void look_for_zombies(const std::vector<std::uint32_t>& pids);

    ProcFiles proc_{"/proc"};
    std::vector<std::uint32_t> ended_; // pids, sorted
    std::set<std::uint32_t> zombies_;  // whose parent has not been told, or does not listen (wait(2))
    std::size_t looked_at_ = 0;
};

// Whether one of the owners has its classes from one of these rows, of executables and cgroups.
[[nodiscard]] bool owned_by_any(const KernelListeners& listeners, std::span<const FacetRow> rows);

} // namespace bulkhead::agent
