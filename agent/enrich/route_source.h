// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "common/core/unique_fd.h"
#include "common/net/ip.h"

#include <memory>
#include <optional>
#include <unordered_map>

namespace bulkhead::agent {

// Which of our addresses the kernel would send from. An outbound door stands before that choice is made, so what it says
// of a refused attempt lacks it. Asks the routing table of this thread's network namespace (rtnetlink(7), RTM_GETROUTE);
// nothing is sent. Answers are kept for a second and at most 4096 at a time, so a scan costs little. Not thread-safe.
class RouteSource {
public:
    explicit RouteSource(const Clock& clock) : clock_(clock) {}

    // nullopt: no route, or the kernel did not answer.
    [[nodiscard]] std::optional<IpAddress> towards(const IpAddress& peer);

private:
    [[nodiscard]] std::optional<IpAddress> ask(const IpAddress& peer);

    const Clock& clock_;
    UniqueFd socket_;
    MonotonicTime remembered_since_{};
    std::unordered_map<IpAddress, std::optional<IpAddress>> remembered_;
};

} // namespace bulkhead::agent
