// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/hint_rounds.h"

#include <algorithm>
#include <utility>

namespace bulkhead::agent {

void HintRounds::add(const NamespaceHint& hint)
{
    {
        const std::lock_guard lock(mutex_);
        put(hint);
    }
    rounds_.ask();
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

std::vector<NamespaceHint> HintRounds::take()
{
    std::vector<NamespaceHint> taken;
    const std::lock_guard lock(mutex_);
    while (!users_.empty() && taken.size() < of_a_round) {
        User user = std::move(users_.front());
        users_.pop_front();
        taken.push_back(user.hints.front());
        user.hints.pop_front();
        if (!user.hints.empty())
            users_.push_back(std::move(user));
    }
    return taken;
}

bool HintRounds::run()
{
    const bool more = round_(take());
    const std::lock_guard lock(mutex_);
    return more || !users_.empty();
}

} // namespace bulkhead::agent
