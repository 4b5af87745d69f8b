// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

namespace bulkhead::agent {

// The thread that changes what is enforced: file descriptors, timers, and work that other threads hand over. All of the
// agent but the event thread, the uplink and the local socket runs here, so it needs no locks.
class ControlLoop {
public:
    using Task = std::function<void()>;

    [[nodiscard]] static Result<std::unique_ptr<ControlLoop>> create();

    // Runs until stop(). Work that is still queued then is dropped.
    void run();
    // From now on nothing is run, and whoever waits in call() gets no answer. run() ends with it.
    void end();

    // Any thread.
    void stop();
    void post(Task task);

    // Runs `ask` in the loop's thread and waits for its answer; nullopt when the loop has ended. Any thread but the
    // loop's.
    template <typename Ask>
    auto call(Ask ask) -> std::optional<decltype(ask())>;

    // The loop's thread, or before run().
    void watch(int fd, Task on_readable);
    void watch_once(int fd, Task on_readable); // the next time only
    void after(std::chrono::milliseconds delay, Task task);
    void every(std::chrono::milliseconds interval, Task task);

private:
    explicit ControlLoop(UniqueFd wakeup) : wakeup_(std::move(wakeup)) {}
    [[nodiscard]] int milliseconds_to_next_timer() const;
    void poll_once();
    void run_due_timers();
    void run_posted();

    using TimePoint = std::chrono::steady_clock::time_point;
    UniqueFd wakeup_;
    std::mutex mutex_; // guards the next three
    std::deque<Task> posted_;
    bool stopping_ = false;
    bool ended_ = false;
    std::map<int, Task> watched_;
    std::multimap<TimePoint, Task> timers_;
};

// One answer that is certain to come: dropping the last reference to it is the answer "none".
template <typename T>
class Answer {
public:
    struct Slot {
        std::mutex mutex;
        std::condition_variable changed;
        std::optional<T> value;
        bool settled = false;
    };
    explicit Answer(std::shared_ptr<Slot> slot) : slot_(std::move(slot)) {}
    Answer(const Answer&) = delete;
    Answer& operator=(const Answer&) = delete;
    ~Answer() { settle(std::nullopt); }

    void settle(std::optional<T> value)
    {
        const std::lock_guard lock(slot_->mutex);
        if (!slot_->settled) {
            slot_->value = std::move(value);
            slot_->settled = true;
            slot_->changed.notify_all();
        }
    }

private:
    std::shared_ptr<Slot> slot_;
};

template <typename Ask>
auto ControlLoop::call(Ask ask) -> std::optional<decltype(ask())>
{
    using T = decltype(ask());
    auto slot = std::make_shared<typename Answer<T>::Slot>();
    {
        auto answer = std::make_shared<Answer<T>>(slot);
        post([answer, ask = std::move(ask)] { answer->settle(ask()); });
    }
    std::unique_lock lock(slot->mutex);
    slot->changed.wait(lock, [&] { return slot->settled; });
    return std::move(slot->value);
}

} // namespace bulkhead::agent
