// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace bulkhead::bench {

// Ends the program, with what went wrong.
[[noreturn]] void give_up(const std::string& what);

template <typename T>
T take(Result<T> result)
{
    if (!result)
        give_up(result.error().message);
    return std::move(*result);
}
inline void take(Status status)
{
    if (!status)
        give_up(status.error().message);
}

// A datapath on one cgroup, in this network namespace, and a thread that drains its rings as the agent's does. What is
// pinned is removed at the end; scripts/bench removes what a killed program left.
class BenchHost {
public:
    explicit BenchHost(const std::string& cgroup);
    ~BenchHost();
    BenchHost(const BenchHost&) = delete;
    BenchHost& operator=(const BenchHost&) = delete;

    [[nodiscard]] agent::Datapath& datapath() { return *datapath_; }
    // Both planes.
    void realise(const policy::PlaneImage& image, agent::FacetTable facets = {});
    void realise(const policy::PlaneImage& active, const policy::PlaneImage& shadow, agent::FacetTable facets = {});

private:
    agent::DatapathOptions options_;
    std::unique_ptr<agent::Datapath> datapath_;
    std::atomic<bool> ends_{false};
    std::thread reader_;
};

// Moves this process.
void enter_cgroup(const std::string& cgroup);

// Prints one member of a JSON object: "name": [values].
void print_samples(const char* name, const std::vector<double>& values, bool last = false);

} // namespace bulkhead::bench
