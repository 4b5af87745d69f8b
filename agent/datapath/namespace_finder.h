// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/unique_fd.h"

#include <cstdint>
#include <map>
#include <string>

namespace bulkhead::agent {

// By whom a network namespace can be reached: a thread that is in it, or a process that holds a socket of it.
struct NamespaceHolder {
    int pid = 0;
    int tid = 0; // 0: not known
};

// Network namespaces, by inode number, of the processes in a cgroup and below it. Not those of which only a thread is
// in, or only a socket is held.
[[nodiscard]] std::map<std::uint32_t, NamespaceHolder> find_namespaces(const std::string& cgroup);

// A descriptor of the namespace; none when the holder has nothing to do with it (any more). It keeps the namespace from
// ending, so it is for short use.
[[nodiscard]] UniqueFd open_namespace(std::uint32_t inode, const NamespaceHolder& holder);

} // namespace bulkhead::agent
