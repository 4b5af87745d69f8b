// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/unique_fd.h"

#include <cstdint>
#include <optional>
#include <string>

namespace bulkhead::agent {

// By what a network namespace can be reached: a thread that is in it, a process that holds a socket of it, or a mount.
struct NamespaceHolder {
    int pid = 0;
    int tid = 0;            // 0: not known
    int socket = -1;        // the descriptor of `pid`; -1: not known
    std::uint32_t user = 0; // for whom it is looked for, where that takes long
    std::string mount{};    // where it is mounted; empty: nowhere that is known
};

// A descriptor of the namespace, without a search; none when the holder has nothing to do with it (any more), or has it
// elsewhere. It keeps the namespace from ending, so it is for short use.
[[nodiscard]] UniqueFd open_namespace(std::uint32_t inode, const NamespaceHolder& holder);

// The namespace that a socket of the process lies in; none: it is no socket, or gone.
[[nodiscard]] UniqueFd namespace_of_socket(int pidfd, int socket);

// Who answers for a namespace: the maker of the outermost user namespace, below the agent's own, that it belongs to. He
// cannot choose another, as he can a uid in it. None: it belongs to the agent's.
[[nodiscard]] std::optional<std::uint32_t> user_behind_namespace(int netns);
// Likewise of a process; if it is in no user namespace but the agent's, `uid`.
[[nodiscard]] std::uint32_t user_behind_process(std::uint32_t pid, std::uint32_t uid);

} // namespace bulkhead::agent
