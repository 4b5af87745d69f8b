// SPDX-License-Identifier: Apache-2.0
#include "common/policy/peer_classes.h"
#include "common/policy/plane_image.h"
#include "common/policy/port_classes.h"

#include <algorithm>
#include <map>

namespace bulkhead::policy {
namespace {

struct PeerSetLess {
    bool operator()(const PeerSet* a, const PeerSet* b) const
    {
        return std::tie(a->cidrs, a->identities) < std::tie(b->cidrs, b->identities);
    }
};

struct ServicesLess {
    bool operator()(const std::vector<ServiceAtom>* a, const std::vector<ServiceAtom>* b) const { return *a < *b; }
};

// Rules of one plane, with equal peers and equal services told once.
struct Grouped {
    struct Member {
        std::uint32_t rule = 0;
        std::optional<std::uint32_t> peers; // absent: any
        std::uint32_t services = 0;
    };
    std::vector<Member> members;
    std::vector<const PeerSet*> peer_sets;
    ServiceSets service_sets[2]; // by direction
};

template <typename Map, typename Key, typename List>
std::uint32_t number_of(Map& numbers, Key key, List& list)
{
    const auto [found, is_new] = numbers.try_emplace(key, static_cast<std::uint32_t>(list.size()));
    if (is_new)
        list.push_back(key);
    return found->second;
}

Grouped group(const HostPolicy& policy, Plane plane)
{
    Grouped grouped;
    std::map<const PeerSet*, std::uint32_t, PeerSetLess> peer_numbers;
    std::map<const std::vector<ServiceAtom>*, std::uint32_t, ServicesLess> service_numbers[2];
    for (std::uint32_t i = 0; i < policy.rules.size(); ++i) {
        const auto& rule = policy.rules[i];
        if ((rule.planes & plane_bit(plane)) == 0)
            continue;
        Grouped::Member member{i, std::nullopt, 0};
        const auto direction = static_cast<std::size_t>(rule.direction);
        if (!rule.peers.any)
            member.peers = number_of(peer_numbers, &rule.peers, grouped.peer_sets);
        member.services = number_of(service_numbers[direction], &rule.services, grouped.service_sets[direction]);
        grouped.members.push_back(member);
    }
    return grouped;
}

Status check(const HostPolicy& policy)
{
    if (policy.processes.size() > BH_CLASSES - 1)
        return fail(ErrorKind::invalid, "{} process conditions; a host can tell {} apart", policy.processes.size(),
                    BH_CLASSES - 1);
    for (const auto& rule : policy.rules) {
        if (rule.process_class > policy.processes.size())
            return fail(ErrorKind::invalid, "rule {}: process class {} does not exist", rule.id, rule.process_class);
        if (rule.action == HostAction::failsafe && rule.expires)
            return fail(ErrorKind::invalid, "rule {}: a failsafe does not expire", rule.id);
        if (rule.action == HostAction::failsafe && rule.process_class != 0)
            return fail(ErrorKind::invalid, "rule {}: a failsafe cannot depend on the process", rule.id);
    }
    return {};
}

void add_to(bh_entry& entry, const HostRule& rule)
{
    const auto word = rule.process_class / 64;
    const auto bit = std::uint64_t{1} << (rule.process_class % 64);
    switch (rule.action) {
    case HostAction::allow: entry.allow[word] |= bit; break;
    case HostAction::deny: entry.deny[word] |= bit; break;
    case HostAction::failsafe: entry.failsafe = 1; break;
    }
}

// Of which classes the peer sets and the service sets of Grouped are made.
struct Classes {
    const std::vector<std::vector<std::uint32_t>>& of_peers;
    const std::vector<std::vector<PortClass>>* of_services; // by direction

    [[nodiscard]] const std::vector<std::uint32_t>& peers(const Grouped::Member& member) const
    {
        static const std::vector<std::uint32_t> any{BH_PEER_ANY};
        return member.peers ? of_peers[*member.peers] : any;
    }
    [[nodiscard]] const std::vector<PortClass>& ports(const HostRule& rule, const Grouped::Member& member) const
    {
        return of_services[static_cast<std::size_t>(rule.direction)][member.services];
    }
};

// Before anything is built: an answer, not an exhausted machine.
Status check_size(const HostPolicy& policy, const Grouped& grouped, const Classes& classes)
{
    std::size_t cells = 0;
    for (const auto& member : grouped.members)
        cells += classes.peers(member).size() * classes.ports(policy.rules[member.rule], member).size();
    if (cells <= max_plane_cells)
        return {};
    auto error = fail(ErrorKind::invalid,
                      "the policy for one host is too large: {} combinations of rule, peers and ports; the limit is {}",
                      cells, max_plane_cells);
    error.value().mend = "join rules about the same peers, and port ranges that overlap";
    return error;
}

void unite(bh_entry& entry, const bh_entry& other)
{
    for (std::size_t i = 0; i < BH_CLASS_WORDS; ++i) {
        entry.allow[i] |= other.allow[i];
        entry.deny[i] |= other.deny[i];
    }
    entry.failsafe |= other.failsafe;
}

// Fills the entries of an image. An entry of which something expires gets stages, one for each instant.
class Entries {
public:
    Entries(PlaneImage& image, WallTime now) : image_(image), now_(now) {}

    void add(const HostRule& rule, const Grouped::Member& member, const Classes& classes)
    {
        for (const auto peer : classes.peers(member))
            for (const auto& port : classes.ports(rule, member))
                add({peer, port.number, static_cast<std::uint8_t>(port.protocol),
                     static_cast<std::uint8_t>(rule.direction)},
                    rule, member.rule);
        if (rule.process_class != 0)
            image_.info.has_processes = 1;
    }

    Status add_stages()
    {
        for (const auto& [key, stages] : stages_) {
            if (stages.size() > BH_STAGES)
                return too_many(stages.size());
            auto number = static_cast<unsigned>(stages.size());
            auto whole = image_.entries[key].entry; // what remains, and then what there was before, and before that
            image_.entries[key].entry.stages = number;
            for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage, --number) {
                unite(whole, stage->second);
                whole.until_ns = static_cast<std::uint64_t>(stage->first.time_since_epoch().count());
                auto at = key;
                at.direction = static_cast<std::uint8_t>(key.direction + (number << BH_STAGE_SHIFT));
                image_.entries[at].entry = whole;
            }
        }
        return {};
    }

private:
    void add(const bh_entry_key& key, const HostRule& rule, std::uint32_t index)
    {
        auto& cell = image_.entries[key];
        cell.rules.push_back(index);
        if (!rule.expires)
            add_to(cell.entry, rule);
        else if (now_ < *rule.expires)
            add_to(stages_[key][*rule.expires], rule);
    }

    [[nodiscard]] static tl::unexpected<Error> too_many(std::size_t count)
    {
        auto error = fail(ErrorKind::invalid,
                          "rules about the same peers and service expire at {} different times; {} can be told apart",
                          count, BH_STAGES);
        error.value().mend = "let such rules expire at the same time";
        return error;
    }

    PlaneImage& image_;
    WallTime now_;
    // What expires at each instant.
    std::unordered_map<bh_entry_key, std::map<WallTime, bh_entry>, PlaneImage::KeyHash, PlaneImage::KeyEqual> stages_;
};

bool speaks_of_loopback(const HostRule& rule)
{
    return rule.action != HostAction::failsafe && std::any_of(rule.peers.cidrs.begin(), rule.peers.cidrs.end(),
                                                              [](const Cidr& cidr) { return cidr.is_loopback(); });
}

// Whether the kernel has to ask about loopback at all, and what it does there where no rule says something.
bh_default loopback_default(const HostPolicy& policy, Plane plane)
{
    if (policy.loopback[static_cast<std::size_t>(plane)].action == Action::deny)
        return BH_DEFAULT_DENY;
    const bool spoken_of = std::any_of(policy.rules.begin(), policy.rules.end(), [plane](const HostRule& rule) {
        return (rule.planes & plane_bit(plane)) != 0 && speaks_of_loopback(rule);
    });
    return spoken_of ? BH_DEFAULT_ALLOW : BH_DEFAULT_NONE;
}

bh_default to_abi(const std::optional<Action>& action)
{
    if (!action)
        return BH_DEFAULT_NONE;
    return *action == Action::deny ? BH_DEFAULT_DENY : BH_DEFAULT_ALLOW;
}

} // namespace

std::size_t PlaneImage::KeyHash::operator()(const bh_entry_key& key) const noexcept
{
    const auto low = static_cast<std::uint64_t>(key.port_class) << 16 | static_cast<std::uint64_t>(key.protocol) << 8 |
                     key.direction;
    auto mixed = (static_cast<std::uint64_t>(key.peer_class) << 32 | low) * 0x9e3779b97f4a7c15ULL;
    mixed ^= mixed >> 32;
    return static_cast<std::size_t>(mixed);
}

bool PlaneImage::KeyEqual::operator()(const bh_entry_key& a, const bh_entry_key& b) const noexcept
{
    return a.peer_class == b.peer_class && a.port_class == b.port_class && a.protocol == b.protocol &&
           a.direction == b.direction;
}

Result<PlaneImage> lower(const HostPolicy& policy, Plane plane, const AddressBook& addresses, WallTime now)
{
    BULKHEAD_CHECK(check(policy));
    PlaneImage image;
    image.port_classes.assign(BH_PORT_CLASS_ENTRIES, BH_PORT_ANY);
    const auto grouped = group(policy, plane);
    BULKHEAD_TRY(const auto peer_classes, classify_peers(grouped.peer_sets, addresses, image));
    std::vector<std::vector<PortClass>> port_classes[2];
    for (const auto direction : {Direction::outbound, Direction::inbound}) {
        const auto d = static_cast<std::size_t>(direction);
        BULKHEAD_TRY(port_classes[d], classify_ports(grouped.service_sets[d], direction, image));
    }

    const Classes classes{peer_classes, port_classes};
    BULKHEAD_CHECK(check_size(policy, grouped, classes));
    Entries entries(image, now);
    for (const auto& member : grouped.members)
        entries.add(policy.rules[member.rule], member, classes);
    BULKHEAD_CHECK(entries.add_stages());
    image.info.loopback = static_cast<std::uint8_t>(loopback_default(policy, plane));
    image.info.has_prefixes = image.prefixes.empty() ? 0 : 1;
    for (std::size_t d = 0; d < 2; ++d)
        image.info.default_action[d] =
            static_cast<std::uint8_t>(to_abi(policy.defaults[static_cast<std::size_t>(plane)][d].action));
    return image;
}

} // namespace bulkhead::policy
