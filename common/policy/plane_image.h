// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/abi/bulkhead.h"
#include "common/core/result.h"
#include "common/policy/host_policy.h"

#include <bitset>
#include <unordered_map>

namespace bulkhead::policy {

// The contents of one plane's kernel maps, exactly as they will be written, and what is needed to say which rule a
// verdict came from. Immutable once lowered; safe to read from any thread.
//
// Peer classes partition addresses by the set of selectors (identities, prefixes) that match them: an exact table holds
// the known addresses and prefixes of one address, a prefix table the rest, longest match. Port classes partition
// (direction, protocol, port). Only prefixes that lie wholly inside loopback speak of loopback addresses.
struct PlaneImage {
    struct KeyHash {
        std::size_t operator()(const bh_entry_key& key) const noexcept;
    };
    struct KeyEqual {
        bool operator()(const bh_entry_key& a, const bh_entry_key& b) const noexcept;
    };
    struct Cell {
        bh_entry entry{}; // until_ns in unix time
        // Indexes into HostPolicy::rules, ascending; at the entry itself also those of its stages and of rules that had
        // expired when the plane was lowered.
        std::vector<std::uint32_t> rules;
    };
    struct Prefix {
        bh_prefix_key key{};
        std::uint32_t peer_class = 0;
        std::int32_t parent = -1; // index of the longest other prefix that contains this one; not for the kernel
    };

    bh_plane_info info{}; // generation is filled in at the switch
    std::unordered_map<IpAddress, std::uint32_t> exact;
    std::vector<Prefix> prefixes;            // sorted by address, then length
    std::vector<std::uint16_t> port_classes; // BH_PORT_CLASS_ENTRIES
    std::unordered_map<bh_entry_key, Cell, KeyHash, KeyEqual> entries;

    [[nodiscard]] std::uint32_t peer_class(const IpAddress& address) const;
};

// Of TCP and UDP, which alone have port tables.
inline std::size_t port_class_index(Direction direction, Protocol protocol, std::uint16_t port)
{
    return (static_cast<std::size_t>(direction) << 17) | (protocol == Protocol::udp ? std::size_t{BH_PORTS} : 0) | port;
}

// A plane that would hold more rule references than this in its entries is an error: it would not fit a host. So is one
// whose rules overlap in more ways than this, counted as the sizes of all sets of rules that some peer or port tells
// apart.
inline constexpr std::size_t max_plane_cells = 4U << 20;
inline constexpr std::size_t max_plane_overlap = 16U << 20;

// Nothing has expired yet.
inline constexpr WallTime beginning_of_time{};

// Fails (invalid) when a class number would not fit its field, the image would be too large, or more than BH_STAGES
// instants of expiry after `now` meet in one entry; never yields a partial image. What has expired by `now` is in the
// image in words only: after the wall clock was set back, lower again.
[[nodiscard]] Result<PlaneImage> lower(const HostPolicy& policy, Plane plane, const AddressBook& addresses,
                                       WallTime now = beginning_of_time);

using ClassVector = std::bitset<BH_CLASSES>; // bit 0 is always set
[[nodiscard]] ClassVector class_vector(const __u64 (&words)[BH_CLASS_WORDS]); // of the form that the kernel side has

struct Verdict {
    bh_verdict verdict = BH_ALLOWED;
    bh_reason reason = BH_REASON_NO_POLICY;
    std::optional<std::uint32_t> rule; // index into HostPolicy::rules, when reason is RULE or FAILSAFE
    // Denied by default, and this rule would have allowed it, had it not expired.
    std::optional<std::uint32_t> expired{};
    bool operator==(const Verdict&) const = default;
};

// What one attempt is judged by, besides the process.
struct Approach {
    Direction direction = Direction::outbound;
    Protocol protocol = Protocol::tcp;
    IpAddress peer; // a loopback address: loopback, which only rules about loopback speak of
    // Of the destination; the type of ICMP, the number of another protocol. Absent: not known (a fragment without
    // header), which only services that are about every port match.
    std::optional<std::uint16_t> port = 0;
    WallTime now = beginning_of_time;
};

// What the kernel answers, computed from the image by the same steps: four lookups, then failsafe, deny, allow,
// default.
[[nodiscard]] Verdict judge(const PlaneImage& image, const HostPolicy& policy, const Approach& approach,
                            const ClassVector& classes);

} // namespace bulkhead::policy
