// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "common/policy/plane_image.h"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::test {

// A host policy in few words: TestPolicy().deny_by_default(inbound).allow(inbound, "10.77.0.2", "tcp/80").
class TestPolicy {
public:
    TestPolicy& default_action(policy::Direction direction, policy::Action action,
                               std::uint8_t planes = policy::both_planes);
    // `peers`: an address, a prefix, or "any"; `service`: "tcp/80", "udp/1000-2000", "icmp/8", "icmpv6/128" (types);
    // process class 0: any.
    TestPolicy& rule(policy::HostAction action, policy::Direction direction, std::string_view peers,
                     std::string_view service, std::uint16_t process_class = 0,
                     std::uint8_t planes = policy::both_planes);
    TestPolicy& allow(policy::Direction direction, std::string_view peers, std::string_view service)
    {
        return rule(policy::HostAction::allow, direction, peers, service);
    }
    TestPolicy& deny(policy::Direction direction, std::string_view peers, std::string_view service)
    {
        return rule(policy::HostAction::deny, direction, peers, service);
    }
    // The last rule says nothing from then on.
    TestPolicy& expires_in(std::chrono::milliseconds time);
    TestPolicy& loopback(policy::Action action, std::uint8_t planes = policy::both_planes);
    TestPolicy& process_classes(std::size_t count);

    [[nodiscard]] const policy::HostPolicy& get() const { return policy_; }
    [[nodiscard]] policy::PlaneImage plane(policy::Plane which) const;

private:
    policy::HostPolicy policy_;
};

[[nodiscard]] Result<std::uint32_t> realise(agent::Datapath& datapath, const TestPolicy& policy,
                                            agent::FacetTable facets = {});

[[nodiscard]] bh_address abi_address(std::string_view text);

} // namespace bulkhead::test
