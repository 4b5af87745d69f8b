// SPDX-License-Identifier: Apache-2.0
#include "common/policy/plane_image.h"

#include <algorithm>
#include <array>

namespace bulkhead::policy {
namespace {

struct Found {
    std::array<const PlaneImage::Cell*, 4> cells{}; // nullptr: no such entry
};

Found look_up(const PlaneImage& image, Direction direction, Protocol protocol, const IpAddress& peer,
              std::uint16_t port)
{
    const auto peer_class = image.peer_class(peer);
    const auto port_class = image.port_classes.empty()
                                ? std::uint16_t{BH_PORT_ANY}
                                : image.port_classes[port_class_index(direction, protocol, port)];
    Found found;
    std::size_t next = 0;
    for (const auto p : {peer_class, std::uint32_t{BH_PEER_ANY}})
        for (const auto s : {port_class, std::uint16_t{BH_PORT_ANY}}) {
            const auto entry =
                image.entries.find({p, s, static_cast<std::uint8_t>(protocol), static_cast<std::uint8_t>(direction)});
            found.cells[next++] = entry == image.entries.end() ? nullptr : &entry->second;
        }
    return found;
}

bool intersects(const __u64 (&words)[BH_CLASS_WORDS], const ClassVector& classes)
{
    for (std::size_t i = 0; i < classes.size(); ++i)
        if (classes[i] && (words[i / 64] >> (i % 64) & 1) != 0)
            return true;
    return false;
}

template <typename Predicate>
bool any_cell(const Found& found, Predicate predicate)
{
    return std::any_of(found.cells.begin(), found.cells.end(),
                       [&predicate](const auto* cell) { return cell != nullptr && predicate(cell->entry); });
}

// The first rule, as rules are sorted, that acts so on such a process.
std::optional<std::uint32_t> first_rule(const Found& found, const HostPolicy& policy, HostAction action,
                                        const ClassVector& classes)
{
    std::optional<std::uint32_t> first;
    for (const auto* cell : found.cells) {
        if (cell == nullptr)
            continue;
        for (const auto index : cell->rules) { // ascending
            if (index >= policy.rules.size())
                break;
            const auto& rule = policy.rules[index];
            if (rule.action != action || !classes.test(rule.process_class))
                continue;
            if (!first || index < *first)
                first = index;
            break;
        }
    }
    return first;
}

Verdict by_default(const PlaneImage& image, Direction direction)
{
    switch (image.info.default_action[static_cast<std::size_t>(direction)]) {
    case BH_DEFAULT_DENY: return {BH_DENIED, BH_REASON_DEFAULT, std::nullopt};
    case BH_DEFAULT_ALLOW: return {BH_ALLOWED, BH_REASON_DEFAULT, std::nullopt};
    default: return {BH_ALLOWED, BH_REASON_NO_POLICY, std::nullopt};
    }
}

} // namespace

Verdict judge(const PlaneImage& image, const HostPolicy& policy, Direction direction, Protocol protocol,
              const IpAddress& peer, std::uint16_t port, const ClassVector& given)
{
    // Without process rules the kernel does not ask who the process is: it is in class 0 and no other.
    const auto classes = image.info.has_processes != 0 ? given | ClassVector(1) : ClassVector(1);
    const auto found = look_up(image, direction, protocol, peer, port);
    if (any_cell(found, [](const bh_entry& entry) { return entry.failsafe != 0; }))
        return {BH_ALLOWED, BH_REASON_FAILSAFE, first_rule(found, policy, HostAction::failsafe, classes)};
    if (any_cell(found, [&classes](const bh_entry& entry) { return intersects(entry.deny, classes); }))
        return {BH_DENIED, BH_REASON_RULE, first_rule(found, policy, HostAction::deny, classes)};
    if (any_cell(found, [&classes](const bh_entry& entry) { return intersects(entry.allow, classes); }))
        return {BH_ALLOWED, BH_REASON_RULE, first_rule(found, policy, HostAction::allow, classes)};
    return by_default(image, direction);
}

} // namespace bulkhead::policy
