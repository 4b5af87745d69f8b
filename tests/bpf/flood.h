// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/bpf/sandbox.h"

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace bulkhead::test {

// SYNs made by hand, as fast as it goes, and no more than `packets`.
struct FloodPlan {
    std::string from = "10.77.0.2"; // the first source
    std::uint32_t sources = 1;      // of so many consecutive addresses, at random
    std::string to = "10.77.0.1";
    std::uint16_t port = 10000; // the first port
    std::uint16_t ports = 1;    // of so many consecutive ones, at random
    std::uint64_t packets = 0;
    unsigned threads = 1;
};

class Flood {
public:
    enum class Way {
        sent,     // from `netns`, by a raw socket: over the wire
        received, // in `netns`, by its bh0, as if a driver had them: no sender's work, as many as the host can take
    };

    Flood(const Netns& netns, Way way, const FloodPlan& plan);
    ~Flood() { join(); }
    Flood(const Flood&) = delete;
    Flood& operator=(const Flood&) = delete;

    [[nodiscard]] std::uint64_t sent() const { return sent_; }
    [[nodiscard]] bool over() const { return ended_ == threads_.size(); }
    void join();

private:
    void send(const FloodPlan& plan, std::uint64_t packets);
    void receive(const FloodPlan& plan, std::uint64_t packets);

    std::atomic<std::uint64_t> sent_{0};
    std::atomic<std::size_t> ended_{0};
    std::vector<std::thread> threads_;
};

} // namespace bulkhead::test
