// SPDX-License-Identifier: Apache-2.0
#include "common/policy/port_classes.h"

#include "common/policy/signatures.h"

#include <algorithm>
#include <limits>
#include <set>

namespace bulkhead::policy {
namespace {

struct Boundary {
    std::uint32_t port = 0; // from here on (BH_PORTS: past the end)
    bool opens = false;
    std::uint32_t set = 0;
    auto operator<=>(const Boundary&) const = default;
};

// Ranges of one protocol, joined where they touch: first and one past the last.
std::vector<std::pair<std::uint32_t, std::uint32_t>> spans_of(const std::vector<ServiceAtom>& atoms, Protocol protocol)
{
    std::vector<std::pair<std::uint32_t, std::uint32_t>> spans;
    for (const auto& atom : atoms)
        if (atom.protocol == protocol)
            spans.emplace_back(atom.ports.first, atom.ports.last + 1U);
    std::sort(spans.begin(), spans.end());
    std::vector<std::pair<std::uint32_t, std::uint32_t>> joined;
    for (const auto& span : spans) {
        if (!joined.empty() && span.first <= joined.back().second)
            joined.back().second = std::max(joined.back().second, span.second);
        else
            joined.push_back(span);
    }
    return joined;
}

class PortSweep {
public:
    PortSweep(Direction direction, Protocol protocol, PlaneImage& image, std::vector<std::vector<PortClass>>& classes)
        : direction_(direction), protocol_(protocol), image_(image), classes_(classes)
    {}

    Status run(std::vector<Boundary> boundaries)
    {
        std::sort(boundaries.begin(), boundaries.end());
        std::set<std::uint32_t> open;
        for (std::size_t i = 0; i < boundaries.size();) {
            const auto port = boundaries[i].port;
            for (; i < boundaries.size() && boundaries[i].port == port; ++i) {
                if (boundaries[i].opens)
                    open.insert(boundaries[i].set);
                else
                    open.erase(boundaries[i].set);
            }
            if (!open.empty())
                BULKHEAD_CHECK(assign(port, boundaries[i].port, {open.begin(), open.end()}));
        }
        return {};
    }

private:
    Status assign(std::uint32_t first, std::uint32_t past, const SignatureTable::Members& sets)
    {
        const auto number = signatures_.intern(sets); // 0 is the empty set, which is BH_PORT_ANY: never assigned here
        if (number > std::numeric_limits<std::uint16_t>::max())
            return fail(ErrorKind::invalid,
                        "the rules for one host tell every single port apart: too many port classes");
        if (signatures_.weight() > max_plane_overlap)
            return fail(ErrorKind::invalid, "the services of the rules for one host overlap in too many ways");
        if (number > last_) {
            last_ = number;
            for (const auto set : sets)
                classes_[set].push_back({protocol_, static_cast<std::uint16_t>(number)});
        }
        const auto table =
            image_.port_classes.begin() + static_cast<std::ptrdiff_t>(port_class_index(direction_, protocol_, 0));
        std::fill(table + first, table + past, static_cast<std::uint16_t>(number));
        return {};
    }

    Direction direction_;
    Protocol protocol_;
    PlaneImage& image_;
    std::vector<std::vector<PortClass>>& classes_;
    SignatureTable signatures_;
    SignatureTable::Id last_ = 0;
};

// Of what has no port table, every number is a class of its own.
void add_numbers(const std::vector<ServiceAtom>& atoms, Protocol protocol, std::vector<PortClass>& classes)
{
    const std::uint32_t past = whole_range(protocol).last + 1U;
    for (const auto& [first, end] : spans_of(atoms, protocol)) {
        if (first == 0 && end >= past)
            classes.push_back({protocol, BH_PORT_ANY});
        else
            for (auto number = first; number < std::min(end, past); ++number)
                classes.push_back({protocol, static_cast<std::uint16_t>(number + BH_PORT_CLASS_FIRST)});
    }
}

} // namespace

Result<std::vector<std::vector<PortClass>>> classify_ports(const ServiceSets& sets, Direction direction,
                                                           PlaneImage& image)
{
    std::vector<std::vector<PortClass>> classes(sets.size());
    for (const auto protocol : all_protocols) {
        if (!has_ports(protocol)) {
            for (std::uint32_t set = 0; set < sets.size(); ++set)
                add_numbers(*sets[set], protocol, classes[set]);
            continue;
        }
        std::vector<Boundary> boundaries;
        for (std::uint32_t set = 0; set < sets.size(); ++set)
            for (const auto& [first, past] : spans_of(*sets[set], protocol)) {
                if (first == 0 && past == BH_PORTS) {
                    classes[set].push_back({protocol, BH_PORT_ANY});
                    continue;
                }
                boundaries.push_back({first, true, set});
                boundaries.push_back({past, false, set});
            }
        BULKHEAD_CHECK(PortSweep(direction, protocol, image, classes).run(std::move(boundaries)));
    }
    return classes;
}

} // namespace bulkhead::policy
