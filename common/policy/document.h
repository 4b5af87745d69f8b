// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "common/net/ip.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::policy {

// Where something was written. Lines and columns count from 1; 0: not from a file.
struct SourceRef {
    std::shared_ptr<const std::string> file;
    int line = 0;
    int column = 0;

    [[nodiscard]] std::string to_string() const; // "shop.yaml:12:7"
};

// One finding of parse or validate. `mend` says what to write instead.
struct Diagnostic {
    SourceRef where;
    std::string message;
    std::string mend;

    [[nodiscard]] std::string to_string() const; // "shop.yaml:12:7: error: ...\n    mend: ..."
};

using Labels = std::map<std::string, std::string>;

// `selector:` and `labels:`: every key must match. A value list is "any of"; an empty list is "*" (present).
struct LabelSelector {
    std::map<std::string, std::vector<std::string>> terms;

    [[nodiscard]] bool matches(const Labels& labels) const;
    bool operator==(const LabelSelector&) const = default;
};

enum class Mode { observe, test, enforce };
enum class Direction : std::uint8_t { outbound = 0, inbound = 1 }; // values of enum bh_direction
enum class Action { allow, deny };
// IANA protocol numbers; `other` is every protocol that has no name here (BH_PROTOCOL_OTHER).
enum class Protocol : std::uint8_t { icmp = 1, tcp = 6, udp = 17, icmpv6 = 58, other = 255 };
inline constexpr Protocol all_protocols[] = {Protocol::icmp, Protocol::tcp, Protocol::udp, Protocol::icmpv6,
                                             Protocol::other};

struct Sessions {
    enum class Kind { keep, drain, cut } kind = Kind::keep;
    std::chrono::seconds drain{0};
    bool operator==(const Sessions&) const = default;
};

constexpr bool has_ports(Protocol protocol)
{
    return protocol == Protocol::tcp || protocol == Protocol::udp;
}

// Every port of TCP and UDP, every type of ICMP and ICMPv6, every number of the other protocols.
constexpr PortRange whole_range(Protocol protocol)
{
    return {0, static_cast<std::uint16_t>(has_ports(protocol) ? 65535 : 255)};
}

// One protocol and an inclusive range of what stands for its port: destination ports of TCP and UDP, types of ICMP and
// ICMPv6, protocol numbers of `other`. The service `any` is five of these, the whole range of each protocol.
struct ServiceAtom {
    Protocol protocol = Protocol::tcp;
    PortRange ports;
    auto operator<=>(const ServiceAtom&) const = default;
};

// The own side's process. Every given key must hold. `exe` is a glob(7) in which `*` does not cross '/', '**' does.
// `sha256` names what the file at `exe` must contain and so needs `exe`.
struct ProcessCondition {
    std::optional<std::string> unit, exe, sha256, user, container;
    auto operator<=>(const ProcessCondition&) const = default;
};

// The other side of a rule. Exactly one member is set.
struct PeerRef {
    bool any = false;
    std::optional<std::string> segment;
    std::optional<LabelSelector> labels;
    std::optional<std::string> workload;
    std::optional<std::string> addresses; // name of an address group
    std::vector<Cidr> cidrs;
    SourceRef where;
};

struct Rule {
    std::string id; // unique in its segment; "segment/id" in records
    Action action = Action::allow;
    // A side that is left out is the segment that declares the rule. At least one is given.
    std::optional<PeerRef> from, to;
    std::vector<ServiceAtom> services;       // resolved; sorted, never empty
    std::optional<ProcessCondition> process; // on the declaring segment's side
    std::optional<WallTime> expires;         // from then on it says nothing
    std::string reason;
    SourceRef where;
};

struct Segment {
    std::string name, description, owner;
    LabelSelector selector;
    Mode mode = Mode::test;
    Action inbound = Action::deny, outbound = Action::allow;
    Action loopback = Action::allow; // what no rule about loopback matches
    Sessions sessions;
    std::vector<Rule> rules; // as written, allow first, then deny
    SourceRef where;
};

struct WorkloadDeclaration {
    std::string name;
    std::vector<IpAddress> addresses;
    Labels labels;
    SourceRef where;
};

// The meaning of all documents together: names resolved, services expanded. What validate() passed.
struct PolicySet {
    std::vector<Segment> segments; // by name
    std::map<std::string, std::vector<ServiceAtom>> services;
    std::map<std::string, std::vector<Cidr>> address_groups;
    std::vector<WorkloadDeclaration> workloads;

    [[nodiscard]] const Segment* find_segment(std::string_view name) const;
};

} // namespace bulkhead::policy
