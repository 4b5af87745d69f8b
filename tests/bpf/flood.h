// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/bpf/sandbox.h"

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace bulkhead::test {

// SYNs made by hand, sent from one namespace as fast as one thread can, and no more than `packets`.
struct FloodPlan {
    std::string from = "10.77.0.2"; // the first source
    std::uint32_t sources = 1;      // of so many consecutive addresses, at random
    std::string to = "10.77.0.1";
    std::vector<std::uint16_t> ports; // at random
    std::uint64_t packets = 0;
};

class Flood {
public:
    Flood(const Netns& netns, FloodPlan plan);
    ~Flood() { join(); }
    Flood(const Flood&) = delete;
    Flood& operator=(const Flood&) = delete;

    [[nodiscard]] std::uint64_t sent() const { return sent_; }
    [[nodiscard]] bool over() const { return over_; }
    void join()
    {
        if (thread_.joinable())
            thread_.join();
    }

private:
    void send_all(int netns, const FloodPlan& plan);

    std::atomic<std::uint64_t> sent_{0};
    std::atomic<bool> over_{false};
    std::thread thread_;
};

} // namespace bulkhead::test
