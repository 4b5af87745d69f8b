// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/document.h"

#include <cstdint>
#include <unordered_map>

namespace bulkhead::policy {

// Number of one distinct label set (plus the workload's name where some rule names that workload). Stable while the
// controller lives: it numbers label sets once and keeps them in its store. 0 is "unknown".
using IdentityId = std::uint32_t;

struct Identity {
    IdentityId id = 0;
    Labels labels;
    std::string named_workload;        // set only when a rule says `workload: NAME` of it
    std::vector<std::string> segments; // names, sorted: what records show
    bool operator==(const Identity&) const = default;
};

struct Workload {
    std::string name;
    Labels labels;
    std::vector<IpAddress> addresses;
};

// Who has which address; what a host needs to know of the others. Order-free; duplicates are the builder's to refuse.
struct Inventory {
    std::vector<Workload> workloads;
};

struct AddressEntry {
    IdentityId identity = 0;
    std::string workload;
    bool operator==(const AddressEntry&) const = default;
};
using AddressBook = std::unordered_map<IpAddress, AddressEntry>;

enum class Plane : std::uint8_t { active = 0, shadow = 1 };
inline constexpr std::uint8_t plane_bit(Plane plane)
{
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(plane));
}
inline constexpr std::uint8_t both_planes = 3;

struct PeerSet {
    bool any = false;
    std::vector<Cidr> cidrs;            // sorted
    std::vector<IdentityId> identities; // sorted
    bool operator==(const PeerSet&) const = default;
};

enum class HostAction : std::uint8_t { allow, deny, failsafe };

// A rule as one host sees it: own side implied, one direction.
struct HostRule {
    std::string id; // "segment/id", or "failsafe/name"
    Direction direction = Direction::outbound;
    HostAction action = HostAction::allow;
    std::uint8_t planes = both_planes; // bits of plane_bit()
    PeerSet peers;
    std::vector<ServiceAtom> services;
    std::uint16_t process_class = 0; // 0: any process; else 1 + index into HostPolicy::processes
    std::optional<WallTime> expires; // from then on it says nothing
    std::string where;               // file:line of the policy
    std::string reason;
    bool operator==(const HostRule&) const = default;
};

struct HostDefault {
    // absent: no segment of this host enforces in that plane, so nothing is judged by default
    std::optional<Action> action;
    std::string segment; // whose default decides; the first by name when several agree
    bool operator==(const HostDefault&) const = default;
};

// All that one host enforces, before addresses are known. A function of (policy, own labels, own name), so hosts with
// the same label set share it. Rules are sorted by id, direction: the deciding rule is the first that matches.
struct HostPolicy {
    std::vector<std::string> segments; // own, sorted
    std::vector<HostRule> rules;
    std::vector<ProcessCondition> processes; // at most BH_CLASSES - 1
    HostDefault defaults[2][2];              // [Plane][Direction]
    HostDefault loopback[2];                 // [Plane]; set only where a segment says deny
    Sessions sessions;                       // the strictest of the own enforcing segments: cut, shortest drain, keep
    bool operator==(const HostPolicy&) const = default;
};

} // namespace bulkhead::policy
