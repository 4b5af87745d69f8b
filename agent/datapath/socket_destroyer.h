// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"

#include <functional>
#include <memory>
#include <unordered_set>
#include <vector>

struct destroyer;

namespace bulkhead::agent {

// Destroys UDP sockets in a walk over all of a network namespace, so that none hides another. Not thread-safe.
class SocketDestroyer {
public:
    // As in DatapathOptions. `is_missing`: as if the kernel lacked it.
    SocketDestroyer(std::function<void()> on_progress, bool is_missing);
    ~SocketDestroyer();
    SocketDestroyer(SocketDestroyer&&) noexcept;
    SocketDestroyer& operator=(SocketDestroyer&&) noexcept;

    // Loads the program, once. False: this kernel lacks bpf_sock_destroy() (before Linux 6.5).
    [[nodiscard]] Result<bool> load();
    // In the namespace of the thread that calls it; of those that have the peer that they were walked with. Adds the
    // cookies of what it destroyed. Only after load().
    Status destroy(const std::vector<const bh_walked_socket*>& sockets, std::unordered_set<std::uint64_t>& destroyed);

private:
    struct Deleter {
        void operator()(::destroyer* skeleton) const;
    };
    std::unique_ptr<::destroyer, Deleter> skeleton_;
    Link walk_;
    std::function<void()> on_progress_;
    bool is_missing_;
};

} // namespace bulkhead::agent
