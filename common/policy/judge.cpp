// SPDX-License-Identifier: Apache-2.0
#include "common/policy/plane_image.h"

#include <algorithm>
#include <vector>

namespace bulkhead::policy {
namespace {

// What is found of one attempt: the entries in force, and whose rules they are.
struct Found {
    std::vector<const bh_entry*> entries;
    std::vector<const PlaneImage::Cell*> cells;
};

std::uint16_t port_class_of(const PlaneImage& image, const Approach& approach)
{
    if (!approach.port)
        return BH_PORT_ANY;
    if (!has_ports(approach.protocol))
        return static_cast<std::uint16_t>(*approach.port + BH_PORT_CLASS_FIRST);
    if (image.port_classes.empty())
        return BH_PORT_ANY;
    return image.port_classes[port_class_index(approach.direction, approach.protocol, *approach.port)];
}

const bh_entry& entry_of_now(const PlaneImage& image, const bh_entry_key& key, const bh_entry& entry, WallTime now)
{
    const auto unix_ns = static_cast<std::uint64_t>(now.time_since_epoch().count());
    for (unsigned i = 1; i <= entry.stages; ++i) {
        auto at = key;
        at.direction = static_cast<std::uint8_t>(key.direction + (i << BH_STAGE_SHIFT));
        const auto stage = image.entries.find(at);
        if (stage != image.entries.end() && unix_ns < stage->second.entry.until_ns)
            return stage->second.entry;
    }
    return entry;
}

void consider(const PlaneImage& image, const bh_entry_key& key, WallTime now, Found& found)
{
    const auto base = image.entries.find(key);
    if (base == image.entries.end())
        return;
    found.cells.push_back(&base->second);
    found.entries.push_back(&entry_of_now(image, key, base->second.entry, now));
}

Found look_up(const PlaneImage& image, const Approach& approach)
{
    const auto peer_class = image.peer_class(approach.peer);
    const auto port_class = port_class_of(image, approach);
    Found found;
    const auto both_ports = [&](std::uint32_t peer) {
        bh_entry_key key{peer, BH_PORT_ANY, static_cast<std::uint8_t>(approach.protocol),
                         static_cast<std::uint8_t>(approach.direction)};
        consider(image, key, approach.now, found);
        key.port_class = port_class;
        if (port_class != BH_PORT_ANY)
            consider(image, key, approach.now, found);
    };
    if (!approach.peer.is_loopback())
        both_ports(BH_PEER_ANY);
    if (peer_class != BH_PEER_ANY)
        both_ports(peer_class);
    return found;
}

bool intersects(const __u64 (&words)[BH_CLASS_WORDS], const ClassVector& classes)
{
    return (class_vector(words) & classes).any();
}

template <typename Predicate>
bool any_entry(const Found& found, Predicate predicate)
{
    return std::any_of(found.entries.begin(), found.entries.end(),
                       [&predicate](const bh_entry* entry) { return predicate(*entry); });
}

// The first rule, as rules are sorted, that acts so on such a process: of those in force, or of those that have
// expired.
std::optional<std::uint32_t> first_rule(const Found& found, const HostPolicy& policy, HostAction action,
                                        const ClassVector& classes, WallTime now, bool expired = false)
{
    std::optional<std::uint32_t> first;
    for (const auto* cell : found.cells)
        for (const auto index : cell->rules) { // ascending
            if (index >= policy.rules.size())
                break;
            const auto& rule = policy.rules[index];
            const bool over = rule.expires && *rule.expires <= now;
            if (rule.action != action || over != expired || !classes.test(rule.process_class))
                continue;
            if (!first || index < *first)
                first = index;
            break;
        }
    return first;
}

Verdict by_default(const PlaneImage& image, const Approach& approach)
{
    if (approach.peer.is_loopback()) {
        if (image.info.loopback == BH_DEFAULT_DENY)
            return {BH_DENIED, BH_REASON_DEFAULT, {}, {}};
        return {BH_ALLOWED, BH_REASON_LOCAL, {}, {}};
    }
    switch (image.info.default_action[static_cast<std::size_t>(approach.direction)]) {
    case BH_DEFAULT_DENY: return {BH_DENIED, BH_REASON_DEFAULT, {}, {}};
    case BH_DEFAULT_ALLOW: return {BH_ALLOWED, BH_REASON_DEFAULT, {}, {}};
    default: return {BH_ALLOWED, BH_REASON_NO_POLICY, {}, {}};
    }
}

} // namespace

ClassVector class_vector(const __u64 (&words)[BH_CLASS_WORDS])
{
    ClassVector classes;
    for (std::size_t i = BH_CLASS_WORDS; i-- > 0;)
        (classes <<= 64) |= ClassVector(words[i]);
    return classes;
}

Verdict judge(const PlaneImage& image, const HostPolicy& policy, const Approach& approach, const ClassVector& given)
{
    if (approach.peer.is_loopback() && image.info.loopback == BH_DEFAULT_NONE)
        return {BH_ALLOWED, BH_REASON_LOCAL, {}, {}};
    // Without process rules the kernel does not ask who the process is: it is in class 0 and no other.
    const auto classes = image.info.has_processes != 0 ? given | ClassVector(1) : ClassVector(1);
    const auto found = look_up(image, approach);
    const auto rule = [&](HostAction action) { return first_rule(found, policy, action, classes, approach.now); };
    if (any_entry(found, [](const bh_entry& entry) { return entry.failsafe != 0; }))
        return {BH_ALLOWED, BH_REASON_FAILSAFE, rule(HostAction::failsafe), {}};
    if (any_entry(found, [&classes](const bh_entry& entry) { return intersects(entry.deny, classes); }))
        return {BH_DENIED, BH_REASON_RULE, rule(HostAction::deny), {}};
    if (any_entry(found, [&classes](const bh_entry& entry) { return intersects(entry.allow, classes); }))
        return {BH_ALLOWED, BH_REASON_RULE, rule(HostAction::allow), {}};
    auto verdict = by_default(image, approach);
    if (verdict.verdict == BH_DENIED)
        verdict.expired = first_rule(found, policy, HostAction::allow, classes, approach.now, true);
    return verdict;
}

} // namespace bulkhead::policy
