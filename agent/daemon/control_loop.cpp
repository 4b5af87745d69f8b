// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/control_loop.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <vector>

namespace bulkhead::agent {

using std::chrono::steady_clock;

Result<std::unique_ptr<ControlLoop>> ControlLoop::create()
{
    UniqueFd wakeup(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wakeup)
        return fail_errno(errno, "eventfd");
    return std::unique_ptr<ControlLoop>(new ControlLoop(std::move(wakeup)));
}

void ControlLoop::post(Task task)
{
    {
        const std::lock_guard lock(mutex_);
        if (ended_)
            return;
        posted_.push_back(std::move(task));
    }
    const std::uint64_t one =
        1; // the counter cannot overflow into EAGAIN in practice, and a full counter is readable anyway
    [[maybe_unused]] const auto written = ::write(wakeup_.get(), &one, sizeof one);
}

void ControlLoop::stop()
{
    post([this] {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    });
}

void ControlLoop::watch(int fd, Task on_readable)
{
    watched_[fd] = std::move(on_readable);
}

void ControlLoop::watch_once(int fd, Task on_readable)
{
    watch(fd, [this, fd, task = std::move(on_readable)]() mutable {
        const auto last = std::move(task);
        watched_.erase(fd); // with this function
        last();
    });
}

void ControlLoop::after(std::chrono::milliseconds delay, Task task)
{
    timers_.emplace(steady_clock::now() + delay, std::move(task));
}

void ControlLoop::every(std::chrono::milliseconds interval, Task task)
{
    after(interval, [this, interval, task = std::move(task)] {
        task();
        every(interval, task);
    });
}

void ControlLoop::run()
{
    for (;;) {
        poll_once();
        run_due_timers();
        run_posted();
        const std::lock_guard lock(mutex_);
        if (stopping_)
            break;
    }
    end();
}

void ControlLoop::end()
{
    std::deque<Task> dropped; // destroyed outside the lock: each may hold an Answer that somebody waits for
    const std::lock_guard lock(mutex_);
    ended_ = true;
    dropped.swap(posted_);
}

int ControlLoop::milliseconds_to_next_timer() const
{
    if (timers_.empty())
        return -1;
    const auto left = timers_.begin()->first - steady_clock::now();
    return std::max(0, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count()));
}

void ControlLoop::poll_once()
{
    std::vector<pollfd> fds{{wakeup_.get(), POLLIN, 0}};
    for (const auto& [fd, task] : watched_)
        fds.push_back({fd, POLLIN, 0});
    if (::poll(fds.data(), fds.size(), milliseconds_to_next_timer()) <= 0)
        return;
    std::uint64_t count = 0;
    if (fds.front().revents != 0 && ::read(wakeup_.get(), &count, sizeof count) < 0 && errno != EAGAIN)
        return;
    for (std::size_t i = 1; i < fds.size(); ++i)
        if (const auto found = watched_.find(fds[i].fd); fds[i].revents != 0 && found != watched_.end())
            found->second();
}

void ControlLoop::run_due_timers()
{
    const auto now = steady_clock::now();
    while (!timers_.empty() && timers_.begin()->first <= now) {
        auto due = timers_.extract(timers_.begin());
        due.mapped()();
    }
}

void ControlLoop::run_posted()
{
    std::deque<Task> tasks;
    {
        const std::lock_guard lock(mutex_);
        tasks.swap(posted_);
    }
    for (auto& task : tasks)
        task();
}

} // namespace bulkhead::agent
