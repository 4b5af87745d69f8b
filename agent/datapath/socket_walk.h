// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"

#include <vector>

namespace bulkhead::agent {

// The three iterators, attached to nothing but this process. Sockets are those of the network namespace of the calling
// thread; owners are all processes of its pid namespace.
class SocketWalk {
public:
    static Result<SocketWalk> attach(const ::datapath& skeleton);
    [[nodiscard]] Result<std::vector<WalkedSocket>> walk() const;

private:
    Link tcp_, udp_, owners_;
};

} // namespace bulkhead::agent
