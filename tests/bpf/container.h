// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/bpf/sandbox.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>

namespace bulkhead::test {

// A process in the enforced cgroup and in a network namespace of its own, as a container has it; it only is there.
class Container {
public:
    explicit Container(const Cgroup& enforced) : netns_(std::make_unique<Netns>()), inode_(netns_->inode())
    {
        run_in(*netns_, enforced, [this] {
            pid_ = ::fork();
            if (pid_ != 0)
                return;
            (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
            (void)::close_range(3, ~0U, 0); // also other containers' namespaces
            while (true)
                (void)::pause();
        });
    }
    ~Container() { end(); }
    Container(const Container&) = delete;
    Container& operator=(const Container&) = delete;

    void end()
    {
        leave();
        netns_.reset();
    }
    // The process ends; descriptors of ours hold the namespace, for which the agent cannot look.
    void leave()
    {
        if (pid_ > 0) {
            (void)::kill(pid_, SIGKILL);
            (void)::waitpid(pid_, nullptr, 0);
        }
        pid_ = -1;
    }
    // To a peer by a wire of their own: 10.78.0.1 and the peer's 10.78.0.2 and .3.
    void join(const Netns& peer) const
    {
        const std::string place = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(netns_->fd());
        ip(peer, "link add bh1 type veth peer name eth0 netns " + place);
        ip(peer, "addr add 10.78.0.2/24 dev bh1");
        ip(peer, "addr add 10.78.0.3/24 dev bh1");
        ip(peer, "link set bh1 up");
        ip(*netns_, "addr add 10.78.0.1/24 dev eth0");
        ip(*netns_, "link set eth0 up");
    }
    [[nodiscard]] const Netns& netns() const { return *netns_; }
    [[nodiscard]] std::uint32_t inode() const { return inode_; }

private:
    std::unique_ptr<Netns> netns_;
    std::uint32_t inode_;
    pid_t pid_ = -1;
};

} // namespace bulkhead::test
