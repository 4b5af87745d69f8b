// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/host_policy.h"

#include <vector>

namespace bulkhead::agent {

// What must work whatever the policy says: reaching this host to mend it, and its reaching the controller, names, an
// address and the time.
struct FailsafeInputs {
    std::vector<Cidr> management; // sources of ssh
    std::vector<IpAddress> controller;
    std::uint16_t controller_port = 0;
    std::vector<IpAddress> resolvers, ntp;
    bool dhcp = true;
    std::vector<IpAddress> dhcp_servers; // empty: any
    std::vector<std::string> without;    // names, without "failsafe/"
};

// Rules of action failsafe, sorted as HostPolicy wants them. A failsafe without any peer gives no rule; one with a peer
// on loopback gives a rule for each end. Pure.
[[nodiscard]] std::vector<policy::HostRule> failsafe_rules(const FailsafeInputs& inputs);

// The policy with the failsafes in their places.
[[nodiscard]] policy::HostPolicy with_failsafes(policy::HostPolicy policy,
                                                const std::vector<policy::HostRule>& failsafes);

} // namespace bulkhead::agent
