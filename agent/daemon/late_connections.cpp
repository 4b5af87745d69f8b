// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/late_connections.h"

#include "common/core/log.h"

#include <utility>
#include <vector>

namespace bulkhead::agent {

void LateConnections::add(const bh_event& event)
{
    {
        const std::lock_guard lock(mutex_);
        if (waiting_.size() < at_once)
            waiting_.push_back(event);
        else
            miss(event.cookie);
    }
    rounds_.ask();
}

std::set<std::uint64_t> LateConnections::take_missed()
{
    const std::lock_guard lock(mutex_);
    return std::exchange(missed_, {});
}

void LateConnections::missed_again(const std::set<std::uint64_t>& cookies)
{
    const std::lock_guard lock(mutex_);
    for (const auto cookie : cookies)
        miss(cookie);
}

void LateConnections::miss(std::uint64_t cookie)
{
    if (missed_.size() < missed_at_most)
        missed_.insert(cookie);
}

bool LateConnections::run()
{
    std::vector<bh_event> round;
    {
        const std::lock_guard lock(mutex_);
        for (; !waiting_.empty() && round.size() < of_a_round; waiting_.pop_front())
            round.push_back(waiting_.front());
    }
    for (const auto& event : round) {
        const auto done = cut_(event);
        if (!done)
            log_warning("a connection that was completed after it was forbidden lives on: {}", done.error().message);
        if (done && !*done) {
            const std::lock_guard lock(mutex_);
            miss(event.cookie);
        }
    }
    const std::lock_guard lock(mutex_);
    return !waiting_.empty();
}

} // namespace bulkhead::agent
