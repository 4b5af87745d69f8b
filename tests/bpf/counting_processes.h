// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/bpf/sandbox.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <vector>

namespace bulkhead::test {

// Processes that do the same again and again, and count in memory that they share with whoever started them. `Counts`
// has atomic members, which begin as zeros.
template <typename Counts>
class CountingProcesses {
public:
    CountingProcesses()
        : shared_(static_cast<Shared*>(
              ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)))
    {}
    ~CountingProcesses()
    {
        stop();
        ::munmap(shared_, sizeof(Shared));
    }
    CountingProcesses(const CountingProcesses&) = delete;
    CountingProcesses& operator=(const CountingProcesses&) = delete;

    void start(const Netns& netns, const Cgroup& cgroup, const std::function<void(Counts&)>& round)
    {
        const int pid = ::fork();
        if (pid != 0) {
            children_.push_back(pid);
            return;
        }
        run_in(netns, cgroup, [&] {
            while (!shared_->stop)
                round(shared_->counts);
        });
        ::_exit(0);
    }
    [[nodiscard]] const Counts& counts() const { return shared_->counts; }
    void stop()
    {
        shared_->stop = true;
        for (const int child : children_)
            ::waitpid(child, nullptr, 0);
        children_.clear();
    }

private:
    struct Shared {
        Counts counts;
        std::atomic<bool> stop;
    };
    Shared* shared_;
    std::vector<int> children_;
};

} // namespace bulkhead::test
