// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/policies.h"

#include <charconv>
#include <cstring>
#include <stdexcept>

namespace bulkhead::test {

namespace {

std::uint16_t number(std::string_view text)
{
    std::uint16_t value = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), value).ptr != text.data() + text.size())
        throw std::invalid_argument(std::string(text));
    return value;
}

policy::ServiceAtom service_atom(std::string_view text)
{
    const auto slash = text.find('/');
    policy::ServiceAtom atom;
    const auto protocol = text.substr(0, slash);
    atom.protocol = protocol == "udp"      ? policy::Protocol::udp
                    : protocol == "icmp"   ? policy::Protocol::icmp
                    : protocol == "icmpv6" ? policy::Protocol::icmpv6
                                           : policy::Protocol::tcp;
    const auto ports = text.substr(slash + 1);
    const auto dash = ports.find('-');
    atom.ports.first = number(ports.substr(0, dash));
    atom.ports.last = dash == std::string_view::npos ? atom.ports.first : number(ports.substr(dash + 1));
    return atom;
}

} // namespace

TestPolicy& TestPolicy::default_action(policy::Direction direction, policy::Action action, std::uint8_t planes)
{
    for (const auto plane : {policy::Plane::active, policy::Plane::shadow})
        if ((planes & policy::plane_bit(plane)) != 0)
            policy_.defaults[static_cast<std::size_t>(plane)][static_cast<std::size_t>(direction)] = {action, "test"};
    return *this;
}

TestPolicy& TestPolicy::rule(policy::HostAction action, policy::Direction direction, std::string_view peers,
                             std::string_view service, std::uint16_t process_class, std::uint8_t planes)
{
    policy::HostRule rule;
    rule.id = "test/" + std::to_string(1000 + policy_.rules.size());
    rule.direction = direction;
    rule.action = action;
    rule.planes = planes;
    rule.process_class = process_class;
    rule.services = {service_atom(service)};
    if (peers == "any")
        rule.peers.any = true;
    else
        rule.peers.cidrs = {Cidr::parse(peers).value()};
    policy_.rules.push_back(std::move(rule));
    return *this;
}

TestPolicy& TestPolicy::expires_in(std::chrono::milliseconds time)
{
    policy_.rules.back().expires =
        std::chrono::time_point_cast<WallTime::duration>(std::chrono::system_clock::now() + time);
    return *this;
}

TestPolicy& TestPolicy::loopback(policy::Action action, std::uint8_t planes)
{
    for (const auto plane : {policy::Plane::active, policy::Plane::shadow})
        if ((planes & policy::plane_bit(plane)) != 0)
            policy_.loopback[static_cast<std::size_t>(plane)] = {action, "test"};
    return *this;
}

TestPolicy& TestPolicy::process_classes(std::size_t count)
{
    policy_.processes.resize(count);
    return *this;
}

policy::PlaneImage TestPolicy::plane(policy::Plane which) const
{
    return policy::lower(policy_, which, {}).value();
}

Result<std::uint32_t> realise(agent::Datapath& datapath, const TestPolicy& policy, agent::FacetTable facets)
{
    const auto active = policy.plane(policy::Plane::active);
    const auto shadow = policy.plane(policy::Plane::shadow);
    return datapath.realise({&active, &shadow, std::move(facets)});
}

bh_address abi_address(std::string_view text)
{
    bh_address address{};
    std::memcpy(address.byte, IpAddress::parse(text).value().bytes.data(), sizeof(address.byte));
    return address;
}

} // namespace bulkhead::test
