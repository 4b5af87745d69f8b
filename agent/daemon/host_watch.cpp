// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/host_watch.h"

#include "common/core/log.h"

namespace bulkhead::agent {
namespace {

constexpr std::uint64_t addresses_every = 3, resolvers_every = 5; // seconds
constexpr std::uint64_t controller_every = 5, connected_controller_every = 60;

} // namespace

HostWatch::HostWatch(const AgentConfig& config)
    : controller_(parse_host_port(config.controller)), follow_resolvers_(!config.failsafe.resolvers)
{
    inputs_.management = config.failsafe.management;
    inputs_.ntp = config.failsafe.ntp;
    inputs_.dhcp = config.failsafe.dhcp;
    inputs_.dhcp_servers = config.failsafe.dhcp_servers;
    inputs_.without = config.failsafe.without;
    if (!follow_resolvers_)
        inputs_.resolvers = *config.failsafe.resolvers;
    if (controller_) {
        inputs_.controller_port = controller_->port;
        if (const auto literal = IpAddress::parse(controller_->host))
            inputs_.controller = {*literal};
    }
    read_addresses();
    read_resolvers();
}

HostWatch::Changes HostWatch::tick(bool controller_connected)
{
    Changes changes;
    if (seconds_ % addresses_every == 0)
        changes.addresses = read_addresses();
    if (seconds_ % resolvers_every == 0 && read_resolvers())
        changes.failsafes = true;
    const bool due = seconds_ % (controller_connected ? connected_controller_every : controller_every) == 0;
    if (ask_controller(due))
        changes.failsafes = true;
    ++seconds_;
    return changes;
}

void HostWatch::assume_controller(const std::vector<policy::HostRule>& failsafes)
{
    if (!controller_ || !inputs_.controller.empty())
        return;
    for (const auto& rule : failsafes)
        if (rule.id == "failsafe/controller" && rule.direction == policy::Direction::outbound)
            for (const auto& cidr : rule.peers.cidrs)
                inputs_.controller.push_back(cidr.address);
}

bool HostWatch::read_addresses()
{
    auto now = own_addresses();
    if (!now || *now == addresses_)
        return false;
    addresses_ = std::move(*now);
    return true;
}

bool HostWatch::read_resolvers()
{
    if (!follow_resolvers_)
        return false;
    auto now = system_resolvers();
    if (now.empty() || now == inputs_.resolvers) // a file that is being written must not cut the host off
        return false;
    inputs_.resolvers = std::move(now);
    return true;
}

bool HostWatch::ask_controller(bool due)
{
    if (!controller_ || IpAddress::parse(controller_->host))
        return false;
    bool changed = false;
    if (auto answer = lookup_.poll()) {
        const std::string trouble = *answer ? std::string() : answer->error().message;
        if (!trouble.empty() && trouble != trouble_)
            log_warning("{}", trouble);
        trouble_ = trouble;
        if (*answer && !(*answer)->empty() && **answer != inputs_.controller) {
            inputs_.controller = std::move(**answer);
            changed = true;
        }
    }
    if (due)
        lookup_.start(controller_->host);
    return changed;
}

} // namespace bulkhead::agent
