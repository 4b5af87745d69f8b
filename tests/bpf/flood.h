// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

struct syn_flood;

namespace bulkhead::test {

// SYNs made by hand, no more than `packets` and no longer than `at_most`.
struct FloodPlan {
    std::string from = "10.77.0.2"; // the first source
    std::uint32_t sources = 1;      // of so many consecutive addresses, at random
    std::string to = "10.77.0.1";
    std::uint16_t port = 10000; // the first port
    std::uint16_t ports = 1;    // of so many consecutive ones, at random
    std::uint64_t packets = 0;
    std::uint64_t per_second = 0; // of all threads, not of a raw socket; 0: as fast as it goes
    std::chrono::seconds at_most{100};
    unsigned threads = 1;
    std::string device = "bh0"; // that receives or transmits
    std::string receiver;       // its link address; of the device itself, if none is given
};

class Flood {
public:
    enum class Way {
        sent,     // from `netns`, by a raw socket: over the wire
        received, // in `netns`, by the device, as if a driver had them: no sender's work, as many as the host can take
        transmitted, // from `netns`, by the device: over the wire, as fast as a driver can
    };

    // `netns`: a descriptor of the namespace.
    Flood(int netns, Way way, const FloodPlan& plan);
    ~Flood() { join(); }
    Flood(const Flood&) = delete;
    Flood& operator=(const Flood&) = delete;

    [[nodiscard]] std::uint64_t sent() const;
    [[nodiscard]] std::chrono::duration<double> took() const; // until the last, when it is over
    [[nodiscard]] int error() const { return error_; } // why it ended early, an errno; EINVAL: no live frames here
    [[nodiscard]] bool over() const { return ended_ == threads_.size(); }
    void join();

private:
    struct Destroy {
        void operator()(syn_flood* program) const;
    };
    using Program = std::unique_ptr<syn_flood, Destroy>;
    using Clock = std::chrono::steady_clock;

    [[nodiscard]] bool is_time_over() const { return Clock::now() >= deadline_; }
    void send(const FloodPlan& plan, std::uint64_t packets);
    Program load(const FloodPlan& plan, std::uint64_t packets, bool transmit);
    void send_live_frames(const FloodPlan& plan, syn_flood& program, std::uint64_t packets);

    Clock::time_point begun_ = Clock::now(), deadline_;
    std::atomic<Clock::rep> last_ns_{0}; // since then, of raw sockets
    std::atomic<std::uint64_t> sent_{0}; // by raw sockets; programs count their own
    std::atomic<int> error_{0};
    std::atomic<std::size_t> ended_{0};
    std::vector<Program> programs_; // of each thread
    std::vector<std::thread> threads_;
};

} // namespace bulkhead::test
