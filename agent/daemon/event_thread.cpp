// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/event_thread.h"

#include "agent/datapath/namespace_finder.h"
#include "agent/sessions/late_session.h"
#include "common/core/log.h"

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

constexpr auto wait = 100ms;
constexpr int last_passes = 100; // a host under load never runs dry; its last records are in the pinned rings

} // namespace

void EventThread::start()
{
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void EventThread::stop()
{
    if (!thread_.joinable())
        return;
    thread_.request_stop();
    thread_.join();
}

void EventThread::run(const std::stop_token& stop)
{
    while (!stop.stop_requested())
        drain(wait);
    for (int i = 0; i < last_passes && drain(0ms) > 0; ++i) {
    }
}

std::size_t EventThread::drain(std::chrono::milliseconds timeout)
{
    const auto consumed = datapath_.consume(
        [this](const bh_event& event) {
            if (event.type == BH_EVENT_UNLISTEN)
                listener_gone_.store(true, std::memory_order_relaxed);
            if (event.type == BH_EVENT_NAMESPACE)
                on_unfollowed_({event.netns, event.subject.pid, event.subject.tid,
                                user_behind_process(event.subject.pid, event.subject.uid)});
            {
                const std::lock_guard lock(mutex_);
                assembler_.on_event(event);
            }
            if (is_late(event))
                on_late_connection_(event);
            passes_.fetch_add(1, std::memory_order_relaxed);
        },
        [this] {
            const std::lock_guard lock(mutex_);
            flush_();
        },
        timeout);
    passes_.fetch_add(1, std::memory_order_relaxed);
    if (consumed)
        return *consumed;
    if (consumed.error().message != error_)
        log_error("cannot read the kernel's events: {}", consumed.error().message);
    error_ = consumed.error().message;
    std::this_thread::sleep_for(wait);
    return 0;
}

} // namespace bulkhead::agent
