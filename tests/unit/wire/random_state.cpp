// SPDX-License-Identifier: Apache-2.0
#include "random_state.h"

#include <rapidcheck.h>

#include <algorithm>
#include <set>

namespace bulkhead::wire
{
namespace
{

unsigned up_to(unsigned limit)
{
    return *rc::gen::inRange(0U, limit + 1);
}

bool coin()
{
    return up_to(1) == 1;
}

std::string word()
{
    static const std::vector<std::string> words{"app", "db", "web", "prod", "ünïcode", "", "*", "a b"};
    return words[up_to(static_cast<unsigned>(words.size()) - 1)];
}

std::vector<std::string> sorted_words(unsigned limit)
{
    std::set<std::string> words;
    for (unsigned i = up_to(limit); i > 0; --i)
        words.insert(word());
    return {words.begin(), words.end()};
}

policy::Labels labels()
{
    policy::Labels result;
    for (unsigned i = up_to(3); i > 0; --i)
        result["key" + std::to_string(up_to(3))] = word();
    return result;
}

IpAddress address()
{
    if (coin())
        return IpAddress::from_v4(0x0a000000U + up_to(20));
    IpAddress result;
    result.bytes[0] = 0xfd;
    result.bytes[15] = static_cast<std::uint8_t>(up_to(20));
    return result;
}

Cidr cidr()
{
    const auto base = address();
    return Cidr{base, static_cast<std::uint8_t>(up_to(base.is_v4() ? 32 : 128))}.masked();
}

policy::ServiceAtom service()
{
    const auto protocol = policy::all_protocols[up_to(std::size(policy::all_protocols) - 1)];
    const unsigned end = policy::whole_range(protocol).last;
    const auto first = static_cast<std::uint16_t>(up_to(end));
    const auto last = static_cast<std::uint16_t>(first + up_to(end - first));
    return {protocol, PortRange{first, last}};
}

policy::ProcessCondition process()
{
    policy::ProcessCondition condition;
    condition.exe = "/usr/bin/" + word();
    if (coin())
        condition.unit = word();
    if (coin())
        condition.user = word();
    if (coin())
        condition.sha256 = word();
    if (coin())
        condition.container = word();
    return condition;
}

policy::HostRule rule(std::size_t processes)
{
    policy::HostRule result;
    result.id = "segment/" + std::to_string(up_to(30));
    result.direction = coin() ? policy::Direction::inbound : policy::Direction::outbound;
    result.action = static_cast<policy::HostAction>(up_to(2));
    result.planes = static_cast<std::uint8_t>(1 + up_to(2));
    if (result.action != policy::HostAction::failsafe && coin())
        result.expires = WallTime(std::chrono::seconds(1 + up_to(2'000'000'000)));
    result.peers.any = coin();
    for (unsigned i = up_to(3); i > 0; --i)
        result.peers.cidrs.push_back(cidr());
    for (unsigned i = up_to(3); i > 0; --i)
        result.peers.identities.push_back(1 + up_to(9));
    std::sort(result.peers.cidrs.begin(), result.peers.cidrs.end());
    std::sort(result.peers.identities.begin(), result.peers.identities.end());
    for (unsigned i = 1 + up_to(2); i > 0; --i)
        result.services.push_back(service());
    result.process_class = static_cast<std::uint16_t>(up_to(static_cast<unsigned>(processes)));
    result.where = "shop.yaml:" + std::to_string(up_to(99));
    result.reason = word();
    return result;
}

policy::Sessions sessions()
{
    policy::Sessions result;
    result.kind = static_cast<policy::Sessions::Kind>(up_to(2));
    if (result.kind == policy::Sessions::Kind::drain)
        result.drain = std::chrono::seconds(up_to(3600));
    return result;
}

} // namespace

policy::HostPolicy random_policy()
{
    policy::HostPolicy policy;
    policy.segments = sorted_words(3);
    for (unsigned i = up_to(3); i > 0; --i)
        policy.processes.push_back(process());
    for (unsigned i = up_to(4); i > 0; --i)
        policy.rules.push_back(rule(policy.processes.size()));
    for (auto& plane : policy.defaults) {
        for (auto& one : plane) {
            if (coin())
                one = {coin() ? policy::Action::allow : policy::Action::deny, word()};
        }
    }
    if (coin())
        policy.loopback[up_to(1)] = {policy::Action::deny, word()};
    policy.sessions = sessions();
    return policy;
}

HostState random_state()
{
    HostState state;
    state.generation = up_to(1000);
    state.policy_version = up_to(1000);
    state.policy = random_policy();
    for (unsigned i = up_to(8); i > 0; --i) {
        const policy::IdentityId id = 1 + up_to(9);
        state.identities[id] = {id, labels(), word(), sorted_words(2)};
    }
    for (unsigned i = up_to(8); i > 0; --i)
        state.addresses[address()] = {up_to(9), word()};
    state.own_labels = labels();
    return state;
}

} // namespace bulkhead::wire
