// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/time_budget.h"
#include "common/core/clock.h"

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

namespace bulkhead::agent {

// Reads files whose reading somebody can hold up: for /proc/PID/cmdline the kernel takes the memory lock of the process
// (mmap_lock), which that process can keep for as long as it likes (a page fault on its own FUSE file, by
// /proc/self/mem). Whoever waits then cannot be interrupted, so another thread reads, and is given up after a while.
// Not thread-safe.
class PatientReader {
public:
    explicit PatientReader(const Clock& clock, std::chrono::milliseconds patience = std::chrono::milliseconds(50));
    ~PatientReader(); // leaves behind what is held up
    PatientReader(const PatientReader&) = delete;
    PatientReader& operator=(const PatientReader&) = delete;

    // At most `limit` bytes from the beginning; empty where it cannot be read, or not in time. `user`: whose file it
    // is. Nothing is read of a user who holds up `of_one_user` readers, nor anybody's while `at_most` are held up; nor
    // of a user who was waited for as long as `for_one_user` who never answer, within ten seconds, nor anybody's after
    // `for_all`.
    [[nodiscard]] std::string read(const std::string& path, std::size_t limit, unsigned user);
    [[nodiscard]] std::size_t held_up() const;

    static constexpr std::size_t of_one_user = 2;
    static constexpr std::size_t at_most = 32;
    static constexpr int for_one_user = 10;
    static constexpr int for_all = 40;

private:
    struct HeldUp;
    class Reader;

    [[nodiscard]] bool may_wait(unsigned user);

    static constexpr std::chrono::seconds waiting_is_counted_for{10};

    const Clock& clock_;
    std::chrono::milliseconds patience_;
    TimeBudget waiting_;
    std::shared_ptr<HeldUp> held_up_;
    std::shared_ptr<Reader> reader_; // waits for the next file
};

// At most `limit` bytes from the beginning; empty where it cannot be opened.
[[nodiscard]] std::string read_bounded(const std::string& path, std::size_t limit);

} // namespace bulkhead::agent
