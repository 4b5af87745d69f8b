// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <functional>

namespace bulkhead::test {

// A process that is killed just before the change of pins and links that it is told: so every moment between two
// changes can be had, each time the same.
class SteppedProcess {
public:
    // Forks. `work` begins to be counted when it calls `begin_counting`; it ends the process when it returns.
    explicit SteppedProcess(const std::function<void(const std::function<void()>& begin_counting)>& work);
    ~SteppedProcess();
    SteppedProcess(const SteppedProcess&) = delete;
    SteppedProcess& operator=(const SteppedProcess&) = delete;

    // Lets it make so many changes, and kills it before the next one; unless it ends before, of itself. How many it
    // made; -1 when it cannot be followed.
    enum class Step { any_change, exchange_at_a_link, rename };
    int run(int changes, Step step = Step::any_change);
    // Does something before the first of these changes, and lets it go on to its end.
    void run_disturbed(Step before, const std::function<void()>& disturb);
    [[nodiscard]] bool ended_by_itself() const { return ended_; }

private:
    [[nodiscard]] bool wait_for_stop();

    pid_t pid_ = -1;
    bool ended_ = false;
};

} // namespace bulkhead::test
