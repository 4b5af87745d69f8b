// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/hint_rounds.h"

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

void HintRounds::add(const NamespaceHint& hint)
{
    {
        const std::lock_guard lock(mutex_);
        put(hint);
        if (std::exchange(planned_, true))
            return;
    }
    loop_.post([this] { run(); });
}

void HintRounds::look_everywhere()
{
    {
        const std::lock_guard lock(mutex_);
        everywhere_ = true;
        if (std::exchange(planned_, true))
            return;
    }
    loop_.post([this] { run(); });
}

void HintRounds::put(const NamespaceHint& hint)
{
    auto user = std::find_if(users_.begin(), users_.end(), [&](const auto& one) { return one.uid == hint.user; });
    if (user == users_.end())
        user = users_.insert(users_.end(), User{hint.user, {}});
    auto& hints = user->hints;
    const auto same =
        std::find_if(hints.begin(), hints.end(), [&](const auto& one) { return one.inode == hint.inode; });
    if (same != hints.end())
        *same = hint;
    else if (hints.size() < of_a_user)
        hints.push_back(hint);
}

HintRounds::Work HintRounds::take()
{
    Work taken;
    const std::lock_guard lock(mutex_);
    taken.everywhere = std::exchange(everywhere_, false);
    while (!users_.empty() && taken.hints.size() < of_a_round) {
        User user = std::move(users_.front());
        users_.pop_front();
        taken.hints.push_back(user.hints.front());
        user.hints.pop_front();
        if (!user.hints.empty())
            users_.push_back(std::move(user));
    }
    return taken;
}

void HintRounds::go_on_soon()
{
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(planned_, true))
            return;
    }
    loop_.after(shortest_rest, [this] { run(); });
}

void HintRounds::run()
{
    const auto begun = steady_clock::now();
    const auto work = take();
    const bool more = round_(work.hints, work.everywhere);
    const auto took = std::chrono::ceil<std::chrono::milliseconds>(steady_clock::now() - begun);
    loop_.after(std::max<std::chrono::milliseconds>(shortest_rest, rest_for_work * took),
                [this, more] { rested(more); });
}

void HintRounds::rested(bool more)
{
    {
        const std::lock_guard lock(mutex_);
        planned_ = more || everywhere_ || !users_.empty();
        if (!planned_)
            return;
    }
    run();
}

} // namespace bulkhead::agent
