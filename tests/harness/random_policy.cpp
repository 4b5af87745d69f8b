// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/random_policy.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stdexcept>

namespace bulkhead::harness {
namespace {

using namespace policy;

IpAddress literal(const char* text)
{
    const auto parsed = IpAddress::parse(text);
    if (!parsed)
        throw std::invalid_argument(text);
    return *parsed;
}

const std::vector<std::pair<std::string, std::vector<std::string>>>& label_values()
{
    static const std::vector<std::pair<std::string, std::vector<std::string>>> values{
        {"app", {"shop", "crm"}}, {"env", {"dev", "prod"}}, {"role", {"api", "db", "web"}}};
    return values;
}

// The next or the previous address; wraps.
IpAddress neighbour(IpAddress address, bool up)
{
    for (std::size_t i = address.bytes.size(); i-- > 0;) {
        const auto was = address.bytes[i];
        address.bytes[i] = static_cast<std::uint8_t>(up ? was + 1 : was - 1);
        if (was != (up ? 0xff : 0x00))
            break;
    }
    return address;
}

IpAddress last_of(const Cidr& cidr)
{
    auto address = cidr.address;
    for (unsigned bit = cidr.mapped_length(); bit < 128; ++bit)
        address.bytes[bit / 8] |= static_cast<std::uint8_t>(0x80U >> (bit % 8));
    return address;
}

std::vector<IpAddress> addresses_of(const PeerRef& peer, const Scenario& scenario)
{
    std::vector<IpAddress> found;
    const auto* segment = peer.segment ? scenario.policy.find_segment(*peer.segment) : nullptr;
    for (const auto& workload : scenario.inventory.workloads)
        if ((segment != nullptr && segment->selector.matches(workload.labels)) ||
            (peer.labels && peer.labels->matches(workload.labels)) || peer.workload == workload.name)
            found.insert(found.end(), workload.addresses.begin(), workload.addresses.end());
    return found;
}

bool names_workload(const PeerRef& peer, const Workload& own, const PolicySet& policy)
{
    const auto* segment = peer.segment ? policy.find_segment(*peer.segment) : nullptr;
    return (segment != nullptr && segment->selector.matches(own.labels)) ||
           (peer.labels && peer.labels->matches(own.labels)) || peer.workload == own.name;
}

} // namespace

std::uint64_t seed_from_environment()
{
    if (const char* text = std::getenv("BULKHEAD_SEED"); text != nullptr)
        return std::strtoull(text, nullptr, 0);
    return std::random_device{}();
}

const std::vector<ProcessFacts>& RandomPolicy::processes()
{
    static const std::vector<ProcessFacts> pool{
        {"/usr/sbin/nginx", "www-data", "", std::string(64, 'a'), {"system.slice", "nginx.service"}},
        {"/usr/bin/curl", "alice", "", std::nullopt, {"user.slice", "user-1000.slice"}},
        {"/opt/shop/bin/api", "shop", std::string(64, 'c'), std::string(64, 'b'), {"system.slice"}},
        {"/usr/lib/postgresql/15/bin/postgres",
         "postgres",
         "",
         std::string(64, 'd'),
         {"system.slice", "postgresql.service"}},
        {"/tmp/x", "www-data", "", std::nullopt, {"system.slice", "nginx.service"}},
        {"", "", "", std::nullopt, {}}, // gone before it could be looked at
    };
    return pool;
}

IpAddress RandomPolicy::address()
{
    const auto last = static_cast<std::uint32_t>(below(6) + 1);
    switch (below(4)) {
    case 0: return IpAddress::from_v4(0x0a000000U | static_cast<std::uint32_t>(below(3)) << 8 | last); // 10.0.x.y
    case 1: return IpAddress::from_v4(0xc0000200U | last);                                             // 192.0.2.y
    default: {
        auto result = literal("fd00::");
        result.bytes[7] = static_cast<std::uint8_t>(below(2));
        result.bytes[13] = static_cast<std::uint8_t>(below(3));
        result.bytes[15] = static_cast<std::uint8_t>(last);
        return result;
    }
    }
}

Cidr RandomPolicy::cidr()
{
    static const std::vector<std::uint8_t> v4_lengths{0, 1, 8, 16, 22, 23, 24, 29, 30, 31, 32};
    static const std::vector<std::uint8_t> v6_lengths{0, 1, 8, 48, 64, 96, 104, 112, 125, 126, 128};
    if (chance(5))
        return loopback_cidr();
    if (chance(6)) // IPv6 prefixes around all of IPv4's mapped form, which they must not mean
        return Cidr{literal("::"), static_cast<std::uint8_t>(chance(50) ? 0 : 80)};
    if (chance(3))
        return Cidr{literal("::fffe:0:0"), 95};
    const auto base = address();
    return Cidr{base, pick(base.is_v4() ? v4_lengths : v6_lengths)}.masked();
}

Cidr RandomPolicy::loopback_cidr()
{
    static const std::vector<std::uint8_t> lengths{7, 8, 9, 24, 31, 32};
    if (chance(30))
        return Cidr{literal("::1"), static_cast<std::uint8_t>(chance(70) ? 128 : 127)}.masked();
    return Cidr{loopback_address(), pick(lengths)}.masked();
}

IpAddress RandomPolicy::loopback_address()
{
    if (chance(30))
        return literal("::1");
    return IpAddress::from_v4(0x7f000000U | static_cast<std::uint32_t>(chance(20) ? 0xffffff : below(3) + 1));
}

Protocol RandomPolicy::protocol()
{
    static const std::vector<Protocol> often{Protocol::tcp,  Protocol::tcp,    Protocol::tcp,
                                             Protocol::udp,  Protocol::udp,    Protocol::icmp,
                                             Protocol::icmp, Protocol::icmpv6, Protocol::other};
    return pick(often);
}

const std::vector<std::uint16_t>& RandomPolicy::numbers()
{
    static const std::vector<std::uint16_t> some{0, 2, 4, 47, 50, 132, 254, 255};
    return some;
}

WallTime RandomPolicy::expiry()
{
    using std::chrono::hours;
    // now() is the beginning of an hour; what is to come must not come while a slow test runs.
    static const std::vector<int> from_now{-48, -1, 2, 3, 72};
    return now() + hours(pick(from_now));
}

WallTime RandomPolicy::now()
{
    static const auto began =
        std::chrono::floor<std::chrono::hours>(system_clock().wall()); // whole hours: documents say seconds
    return began;
}

Labels RandomPolicy::labels()
{
    Labels result;
    for (const auto& [key, values] : label_values())
        if (chance(75))
            result[key] = pick(values);
    return result;
}

LabelSelector RandomPolicy::selector()
{
    LabelSelector result;
    while (result.terms.empty())
        for (const auto& [key, values] : label_values()) {
            if (!chance(45))
                continue;
            auto& wanted = result.terms[key];
            if (chance(15))
                continue; // "*"
            for (const auto& value : values)
                if (chance(45))
                    wanted.push_back(value);
            if (wanted.empty())
                wanted.push_back(pick(values));
        }
    return result;
}

PeerRef RandomPolicy::peer(const PolicySet& policy, const Inventory& inventory)
{
    PeerRef result;
    switch (below(10)) {
    case 0: result.any = true; break;
    case 1:
    case 2:
    case 3:
        for (std::size_t i = below(3) + 1; i > 0; --i)
            if (const auto next = cidr();
                std::find(result.cidrs.begin(), result.cidrs.end(), next) == result.cidrs.end())
                result.cidrs.push_back(next);
        break;
    case 4: result.addresses = chance(50) ? "office" : "partners"; break;
    case 5:
        if (!inventory.workloads.empty()) {
            result.workload = pick(inventory.workloads).name;
            break;
        }
        [[fallthrough]];
    case 6: result.labels = selector(); break;
    default: result.segment = pick(policy.segments).name; break;
    }
    return result;
}

std::vector<ServiceAtom> RandomPolicy::services()
{
    static const std::vector<std::uint16_t> edges{0, 1, 22, 79, 80, 81, 443, 1023, 1024, 8080, 65534, 65535};
    static const std::vector<std::uint16_t> types{0, 1, 3, 8, 127, 128, 129, 254, 255};
    std::vector<ServiceAtom> atoms;
    for (std::size_t i = below(3) + 1; i > 0; --i) {
        const auto protocol = this->protocol();
        if (protocol == Protocol::other) {
            const auto number = pick(numbers());
            atoms.push_back({protocol, {number, number}});
            continue;
        }
        if (chance(8)) {
            atoms.push_back({protocol, whole_range(protocol)});
            continue;
        }
        const auto& some = has_ports(protocol) ? edges : types;
        const auto a = pick(some);
        const auto b = chance(60) ? a : pick(some);
        atoms.push_back({protocol, {std::min(a, b), std::max(a, b)}});
        if (chance(10) && atoms.back().ports.first > 0) // together the whole, as two pieces
            atoms.push_back({protocol, {0, static_cast<std::uint16_t>(atoms.back().ports.first - 1)}});
    }
    if (chance(6)) {
        atoms.clear();
        for (const auto protocol : all_protocols)
            atoms.push_back({protocol, whole_range(protocol)});
    }
    std::sort(atoms.begin(), atoms.end());
    atoms.erase(std::unique(atoms.begin(), atoms.end()), atoms.end());
    return atoms;
}

ProcessCondition RandomPolicy::condition()
{
    static const std::vector<std::string> units{"nginx.service", "postgresql.service", "system.slice"};
    static const std::vector<std::string> globs{"/usr/*/nginx", "/usr/**", "/opt/shop/bin/*", "/usr/bin/c?rl"};
    static const std::vector<std::string> users{"www-data", "shop", "root"};
    ProcessCondition result;
    while (result == ProcessCondition{}) {
        if (chance(35))
            result.unit = pick(units);
        if (chance(40))
            result.exe = pick(globs);
        if (result.exe && chance(30))
            result.sha256 = std::string(64, chance(50) ? 'a' : 'b');
        if (chance(30))
            result.user = pick(users);
        if (chance(8))
            result.container = std::string(chance(50) ? 64 : 12, 'c');
    }
    return result;
}

Rule RandomPolicy::rule(const PolicySet& policy, const Inventory& inventory, std::size_t number)
{
    Rule result;
    // Names in which '/' sorts after what segments may end in ('-', '.'), so "segment/id" order is not segment order.
    result.id = (chance(50) ? "r" : "R-") + std::to_string(number);
    result.action = chance(65) ? Action::allow : Action::deny;
    (chance(50) ? result.from : result.to) = peer(policy, inventory);
    result.services = services();
    if (chance(25))
        result.process = condition();
    if (chance(20))
        result.expires = expiry();
    return result;
}

Inventory RandomPolicy::inventory()
{
    Inventory result;
    std::vector<IpAddress> taken;
    const auto count = below(8);
    for (std::size_t i = 0; i < count; ++i) {
        Workload workload{"host-" + std::to_string(count - i), labels(), {}};
        for (std::size_t k = below(4); k > 0; --k) {
            const auto next = address();
            const bool known = std::find(taken.begin(), taken.end(), next) != taken.end();
            if (known && !chance(20)) // two that claim one address: rare, but answered the same everywhere
                continue;
            if (std::find(workload.addresses.begin(), workload.addresses.end(), next) == workload.addresses.end())
                workload.addresses.push_back(next);
            taken.push_back(next);
        }
        result.workloads.push_back(std::move(workload));
    }
    return result;
}

Scenario RandomPolicy::scenario()
{
    static const std::vector<std::string> names{"s", "s-1", "s.2", "t"}; // sorted
    static const std::vector<Mode> modes{Mode::observe, Mode::test, Mode::enforce, Mode::enforce};
    Scenario result;
    result.inventory = inventory();
    auto& policy = result.policy;
    for (const auto& workload : result.inventory.workloads)
        policy.workloads.push_back({workload.name, {}, {}, {}});
    for (const auto* group : {"office", "partners"}) {
        auto& cidrs = policy.address_groups[group];
        for (std::size_t i = below(3) + 1; i > 0; --i)
            cidrs.push_back(cidr());
        std::sort(cidrs.begin(), cidrs.end());
        cidrs.erase(std::unique(cidrs.begin(), cidrs.end()), cidrs.end());
    }
    const auto count = below(names.size()) + 1;
    for (std::size_t i = 0; i < count; ++i) {
        Segment segment;
        segment.name = names[i];
        segment.selector = selector();
        segment.mode = pick(modes);
        segment.inbound = chance(70) ? Action::deny : Action::allow;
        segment.outbound = chance(50) ? Action::deny : Action::allow;
        segment.loopback = chance(25) ? Action::deny : Action::allow;
        policy.segments.push_back(std::move(segment));
    }
    for (auto& segment : policy.segments)
        for (std::size_t i = below(6); i > 0; --i)
            segment.rules.push_back(rule(policy, result.inventory, i));
    for (auto& segment : policy.segments) // as parse() gives them
        std::stable_partition(segment.rules.begin(), segment.rules.end(),
                              [](const Rule& r) { return r.action == Action::allow; });
    return result;
}

Workload RandomPolicy::host(const Scenario& scenario)
{
    if (scenario.inventory.workloads.empty() || chance(15))
        return {"stranger", labels(), {}};
    return pick(scenario.inventory.workloads);
}

IpAddress RandomPolicy::edge_of(const std::vector<Cidr>& cidrs)
{
    const auto& near = pick(cidrs);
    const auto edge = chance(50) ? near.address : last_of(near);
    return chance(70) ? edge : neighbour(edge, chance(50));
}

IpAddress RandomPolicy::interesting_address(const Scenario& scenario)
{
    if (!scenario.inventory.workloads.empty() && chance(60)) {
        const auto& workload = pick(scenario.inventory.workloads);
        if (!workload.addresses.empty())
            return pick(workload.addresses);
    }
    return chance(20) ? edge_of(scenario.policy.address_groups.at("office")) : address();
}

IpAddress RandomPolicy::address_near(const PeerRef& peer, const Scenario& scenario)
{
    if (chance(15))
        return interesting_address(scenario);
    if (!peer.cidrs.empty())
        return edge_of(peer.cidrs);
    if (peer.addresses)
        return edge_of(scenario.policy.address_groups.at(*peer.addresses));
    const auto members = addresses_of(peer, scenario);
    return members.empty() ? interesting_address(scenario) : pick(members);
}

bool RandomPolicy::aim(Attempt& attempt, const Segment& segment, const Rule& rule, const Scenario& scenario,
                       const Workload& own)
{
    const auto& peer = rule.from ? *rule.from : *rule.to;
    const bool home = segment.selector.matches(own.labels);
    if (!home && !names_workload(peer, own, scenario.policy))
        return false;
    attempt.direction = home == rule.from.has_value() ? Direction::inbound : Direction::outbound;
    PeerRef members;
    members.segment = segment.name;
    attempt.peer = address_near(home ? peer : members, scenario);
    const auto& atom = pick(rule.services);
    attempt.protocol = atom.protocol;
    attempt.port = chance(50) ? atom.ports.first : atom.ports.last;
    if (chance(20))
        attempt.port =
            static_cast<std::uint16_t>((*attempt.port + (chance(50) ? 1 : -1)) & whole_range(attempt.protocol).last);
    return true;
}

Attempt RandomPolicy::attempt(const Scenario& scenario, const Workload& own)
{
    Attempt result;
    do {
        result.direction = chance(50) ? Direction::inbound : Direction::outbound;
        result.protocol = protocol();
        result.peer = interesting_address(scenario);
        result.port = static_cast<std::uint16_t>(chance(50) ? below(65536) : 80);
        if (!has_ports(result.protocol))
            result.port = static_cast<std::uint16_t>(*result.port % 256);
        for (std::size_t tries = chance(85) ? 6 : 0; tries > 0; --tries) {
            const auto& segment = pick(scenario.policy.segments);
            if (!segment.rules.empty() && aim(result, segment, pick(segment.rules), scenario, own))
                break;
        }
    } while (result.peer.is_unspecified());
    const auto& segments = scenario.policy.segments;
    const bool watched = std::any_of(segments.begin(), segments.end(), [&](const Segment& segment) {
        return segment.loopback == Action::deny && segment.selector.matches(own.labels);
    });
    if (chance(watched ? 25 : 4)) // rules about loopback decide only where a segment asks for them
        result.peer = loopback_address();
    if (result.protocol != Protocol::other && chance(6))
        result.port.reset();
    result.process = pick(processes());
    result.now = now();
    return result;
}

IdentityNumbering counting_numbers()
{
    auto known = std::make_shared<std::map<std::pair<Labels, std::string>, IdentityId>>();
    return [known](const Labels& labels, const std::string& name) {
        return known->try_emplace({labels, name}, static_cast<IdentityId>(known->size() + 1)).first->second;
    };
}

} // namespace bulkhead::harness
