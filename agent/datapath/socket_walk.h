// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"

#include <functional>
#include <vector>

namespace bulkhead::agent {

// The three iterators, attached to nothing but this process. Owners are all processes of the pid namespace.
class SocketWalk {
public:
    // `has_cookies`: the kernel lets an iterator ask for them. `on_progress`: as in DatapathOptions.
    static Result<SocketWalk> attach(const ::datapath& skeleton, bool has_cookies, std::function<void()> on_progress);
    // Reads the sockets of the network namespace of the thread that calls it.
    using Look = std::function<Status()>;
    // `enter` calls it once in each network namespace, never at the same time.
    [[nodiscard]] Result<std::vector<WalkedSocket>> walk(const std::function<Status(const Look&)>& enter) const;

private:
    Link tcp_, udp_, owners_;
    int listeners_ = -1;
    bool has_cookies_ = false;
    std::function<void()> on_progress_;
};

} // namespace bulkhead::agent
