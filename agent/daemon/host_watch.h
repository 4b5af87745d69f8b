// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/config/agent_config.h"
#include "agent/daemon/failsafe.h"
#include "agent/daemon/host_facts.h"

namespace bulkhead::agent {

// What changes on a host while the agent runs and matters to it: its addresses, its resolvers, the controller's
// addresses. Not thread-safe.
class HostWatch {
public:
    explicit HostWatch(const AgentConfig& config);

    struct Changes {
        bool addresses = false;
        bool failsafes = false;
    };
    // Once a second. Looks at each thing as often as it is worth; the controller's name more often while it cannot be
    // reached.
    Changes tick(bool controller_connected);
    void look_at_all_soon() { seconds_ = 0; }
    // Takes the controller's addresses from failsafes that were saved, for as long as its name has not resolved.
    void assume_controller(const std::vector<policy::HostRule>& failsafes);

    [[nodiscard]] const std::vector<IpAddress>& addresses() const { return addresses_; }
    [[nodiscard]] std::vector<policy::HostRule> failsafes() const { return failsafe_rules(inputs_); }

private:
    bool read_addresses();
    bool read_resolvers();
    bool ask_controller(bool due);

    std::optional<HostPort> controller_;
    bool follow_resolvers_;
    FailsafeInputs inputs_;
    std::vector<IpAddress> addresses_;
    NameLookup lookup_;
    std::string trouble_; // the last one that was logged
    std::uint64_t seconds_ = 0;
};

} // namespace bulkhead::agent
