// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/namespace_finder.h"
#include "agent/datapath/slice.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <set>

namespace bulkhead::agent {

// Looks among the threads and sockets of processes, of which there may be any number, for those by whom a network
// namespace can be reached. A slice at a time: users take turns, and so do the processes of each. A process is gone
// through once for all that is looked for in it.
class HolderSearch {
public:
    // How many namespaces are looked for at once for one user.
    static constexpr std::size_t at_once = 1024;

    // Looks among all that the holder's process has, from now on. False: too much is looked for already for its user.
    [[nodiscard]] bool want(std::uint32_t inode, const NamespaceHolder& holder);

    using Found = std::function<void(std::uint32_t inode, const NamespaceHolder& holder)>;
    void go_on(Slice& slice, const Found& found);

    [[nodiscard]] bool idle() const { return users_.empty(); }

private:
    struct Process {
        int pid = 0;
        std::set<std::uint32_t> wanted;
        std::set<std::uint32_t> next; // came when this time through had begun
        bool in_sockets = false;      // else in threads
        std::int64_t position = 0;    // in the folder
    };
    struct User {
        std::uint32_t uid = 0;
        std::deque<Process> processes;
        [[nodiscard]] std::size_t wanted() const;
    };
    // False: nothing is looked for in it any more.
    [[nodiscard]] static bool turn(Process& process, Slice& slice, const Found& found);
    [[nodiscard]] static bool folder_ended(Process& process);

    std::deque<User> users_; // whose turn it is comes first
};

} // namespace bulkhead::agent
