// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/failsafe.h"

#include <algorithm>
#include <tuple>

namespace bulkhead::agent {
namespace {

using policy::Direction;
using policy::HostRule;
using policy::PeerSet;
using policy::Protocol;
using policy::ServiceAtom;

PeerSet everybody()
{
    PeerSet peers;
    peers.any = true;
    return peers;
}

// All of IPv4 and all of IPv6 together are "any": an exact entry instead of two prefixes.
PeerSet these(std::vector<Cidr> cidrs)
{
    const bool all_v4 = std::any_of(cidrs.begin(), cidrs.end(),
                                    [](const Cidr& cidr) { return cidr.length == 0 && cidr.address.is_v4(); });
    const bool all_v6 = std::any_of(cidrs.begin(), cidrs.end(),
                                    [](const Cidr& cidr) { return cidr.length == 0 && !cidr.address.is_v4(); });
    if (all_v4 && all_v6)
        return everybody();
    std::sort(cidrs.begin(), cidrs.end());
    cidrs.erase(std::unique(cidrs.begin(), cidrs.end()), cidrs.end());
    PeerSet peers;
    peers.cidrs = std::move(cidrs);
    return peers;
}

PeerSet these(const std::vector<IpAddress>& addresses)
{
    std::vector<Cidr> cidrs;
    for (const auto& address : addresses)
        if (!address.is_unspecified())
            cidrs.push_back(Cidr::host(address));
    return these(std::move(cidrs));
}

// Named servers are met by their addresses, and through those that all servers hear (RFC 2131; RFC 8415, section 7.1).
// An IPv6 server answers from its link-local address.
PeerSet dhcp_peers(const FailsafeInputs& inputs, Direction direction)
{
    if (inputs.dhcp_servers.empty())
        return everybody();
    std::vector<Cidr> peers;
    for (const auto& server : inputs.dhcp_servers)
        peers.push_back(Cidr::host(server));
    if (direction == Direction::outbound) {
        peers.push_back(*Cidr::parse("255.255.255.255/32"));
        peers.push_back(*Cidr::parse("ff02::1:2/128"));
    } else {
        peers.push_back(*Cidr::parse("fe80::/10"));
    }
    return these(std::move(peers));
}

ServiceAtom port(Protocol protocol, std::uint16_t number)
{
    return {protocol, {number, number}};
}

bool before(const HostRule& a, const HostRule& b)
{
    return std::tie(a.id, a.direction) < std::tie(b.id, b.direction);
}

// What stays on the host passes two of its doors. From which loopback address it comes is the kernel's choice.
PeerSet other_end_of_loopback(const PeerSet& peers)
{
    std::vector<Cidr> ends;
    for (const auto& cidr : peers.cidrs)
        if (cidr.is_loopback())
            ends.push_back(*Cidr::parse(cidr.address.is_v4() ? "127.0.0.0/8" : "::1/128"));
    return these(std::move(ends));
}

class Rules {
public:
    void add(const char* name, Direction direction, PeerSet peers, std::vector<ServiceAtom> services,
             const char* reason)
    {
        const auto other_direction = direction == Direction::outbound ? Direction::inbound : Direction::outbound;
        add_one(name, other_direction, other_end_of_loopback(peers), services, reason);
        add_one(name, direction, std::move(peers), std::move(services), reason);
    }

    std::vector<HostRule> rules;

private:
    void add_one(const char* name, Direction direction, PeerSet peers, std::vector<ServiceAtom> services,
                 const char* reason)
    {
        if (!peers.any && peers.cidrs.empty())
            return;
        HostRule rule;
        rule.id = std::string("failsafe/") + name;
        rule.direction = direction;
        rule.action = policy::HostAction::failsafe;
        rule.peers = std::move(peers);
        std::sort(services.begin(), services.end());
        rule.services = std::move(services);
        rule.reason = reason;
        rules.push_back(std::move(rule));
    }
};

} // namespace

std::vector<policy::HostRule> failsafe_rules(const FailsafeInputs& inputs)
{
    Rules rules;
    rules.add("ssh", Direction::inbound, these(inputs.management), {port(Protocol::tcp, 22)},
              "whoever mends this host must get in");
    if (inputs.controller_port != 0)
        rules.add("controller", Direction::outbound, these(inputs.controller),
                  {port(Protocol::tcp, inputs.controller_port)}, "policy comes from there");
    rules.add("dns", Direction::outbound, these(inputs.resolvers), {port(Protocol::tcp, 53), port(Protocol::udp, 53)},
              "the controller's name must resolve");
    rules.add("ntp", Direction::outbound, these(inputs.ntp), {port(Protocol::udp, 123)},
              "certificates need the right time");
    if (inputs.dhcp) {
        rules.add("dhcp", Direction::outbound, dhcp_peers(inputs, Direction::outbound),
                  {port(Protocol::udp, 67), port(Protocol::udp, 547)}, "a lease must be renewed");
        rules.add("dhcp", Direction::inbound, dhcp_peers(inputs, Direction::inbound),
                  {port(Protocol::udp, 68), port(Protocol::udp, 546)}, "a lease must be renewed");
    }
    std::erase_if(rules.rules, [&](const HostRule& rule) {
        const auto name = rule.id.substr(std::string_view("failsafe/").size());
        return std::find(inputs.without.begin(), inputs.without.end(), name) != inputs.without.end();
    });
    std::sort(rules.rules.begin(), rules.rules.end(), before);
    return std::move(rules.rules);
}

policy::HostPolicy with_failsafes(policy::HostPolicy policy, const std::vector<policy::HostRule>& failsafes)
{
    policy.rules.insert(policy.rules.end(), failsafes.begin(), failsafes.end());
    std::sort(policy.rules.begin(), policy.rules.end(), before);
    return policy;
}

} // namespace bulkhead::agent
