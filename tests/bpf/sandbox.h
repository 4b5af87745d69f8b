// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/unique_fd.h"

#include <functional>
#include <string>

namespace bulkhead::test {

// A cgroup v2 folder of this test process alone; removed at the end (what is still in it is moved to the root first).
class Cgroup {
public:
    explicit Cgroup(const std::string& path);
    ~Cgroup();
    Cgroup(const Cgroup&) = delete;
    Cgroup& operator=(const Cgroup&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::uint64_t id() const;

private:
    std::string path_;
};

// A network namespace without a name: gone with its last descriptor, socket and process.
class Netns {
public:
    Netns();
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] std::uint32_t inode() const;

private:
    UniqueFd fd_;
};

// Runs `work` in a namespace and a cgroup, and comes back. Sockets stay where they were made.
void run_in(const Netns& netns, const Cgroup& cgroup, const std::function<void()>& work);
// On a thread of its own, which alone is another user's: the C library's setresuid() changes all of them.
void as_user(uid_t user, const std::function<void()>& work);

// In the namespace: ip(8). Throws when it fails.
void ip(const Netns& netns, const std::string& arguments);

// Two namespaces joined by a veth pair. 10.77.0.1 and fd77::1 are the guarded host's; 10.77.0.2, .3 and fd77::2, ::3
// the peer's. Neighbours are entered by hand, so that no first packet waits or is lost.
struct Wire {
    Netns guarded, peer;
    Wire();
};

} // namespace bulkhead::test
