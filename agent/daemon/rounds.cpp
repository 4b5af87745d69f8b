// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/rounds.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto shortest_rest = 5ms;
constexpr int rest_for_work = 4; // times what the round took

} // namespace

void Rounds::ask()
{
    {
        const std::lock_guard lock(mutex_);
        asked_ = true;
        if (std::exchange(planned_, true))
            return;
    }
    loop_.post([this] { run(); });
}

void Rounds::ask_after_a_rest()
{
    {
        const std::lock_guard lock(mutex_);
        asked_ = true;
        if (std::exchange(planned_, true))
            return;
    }
    loop_.after(shortest_rest, [this] { run(); });
}

void Rounds::run()
{
    {
        const std::lock_guard lock(mutex_);
        asked_ = false;
    }
    const auto begun = steady_clock::now();
    const bool more = round_();
    const auto took = std::chrono::ceil<std::chrono::milliseconds>(steady_clock::now() - begun);
    if (more) {
        const std::lock_guard lock(mutex_);
        asked_ = true;
    }
    loop_.after(std::max<std::chrono::milliseconds>(shortest_rest, rest_for_work * took), [this] { rested(); });
}

void Rounds::rested()
{
    {
        const std::lock_guard lock(mutex_);
        planned_ = asked_;
        if (!planned_)
            return;
    }
    run();
}

} // namespace bulkhead::agent
