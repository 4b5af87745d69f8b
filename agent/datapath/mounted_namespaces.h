// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/unique_fd.h"

#include <cstdint>
#include <map>
#include <string>

namespace bulkhead::agent {

// Network namespaces that a mount keeps, whether or not a process is in them: `ip netns add`, Docker, containerd and
// CNI make them so, and give them their interfaces before the first process of the container enters. Those in which
// only root can mount are looked at: the mount namespace of this process. Not thread-safe.
class MountedNamespaces {
public:
    // `mountinfo`: as proc_pid_mountinfo(5) says.
    explicit MountedNamespaces(std::string mountinfo = "/proc/self/mountinfo");

    // Where each is, by inode number; as of now. The list of mounts is only read again when it has changed.
    [[nodiscard]] const std::map<std::uint32_t, std::string>& now();

private:
    [[nodiscard]] bool has_changed();
    void read();

    std::string mountinfo_;
    UniqueFd changes_;
    bool read_ = false; // the last time, it could be
    std::map<std::uint32_t, std::string> places_;
};

} // namespace bulkhead::agent
