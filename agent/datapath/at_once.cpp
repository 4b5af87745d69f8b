// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/at_once.h"

#include <future>

namespace bulkhead::agent {

Status at_once(const std::vector<std::function<Status()>>& parts)
{
    std::vector<std::future<Status>> under_way;
    under_way.reserve(parts.size());
    for (const auto& part : parts)
        under_way.push_back(std::async(std::launch::async | std::launch::deferred, part));
    Status whole;
    for (auto& one : under_way)
        if (auto status = one.get(); !status)
            whole = std::move(status);
    return whole;
}

} // namespace bulkhead::agent
