// SPDX-License-Identifier: Apache-2.0
#include "common/policy/protocol_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

namespace bulkhead::policy {
namespace {

struct Named {
    std::string_view name;
    std::uint8_t number = 0;
};

// Where a number has several names, the first is the one that is shown. IPv6 extension headers are no protocols: what
// follows them is. Linux, ip(8) and /etc/protocols call 4 "ipip" and "ipencap"; IANA calls it "ipv4", and has another
// "ipip", 94, which nobody sends: that one is written as a number.
constexpr std::array protocols{
    Named{"igmp", 2},         Named{"ggp", 3},        Named{"ipip", 4},       Named{"ipv4", 4},
    Named{"ipencap", 4},      Named{"st", 5},         Named{"cbt", 7},        Named{"egp", 8},
    Named{"igp", 9},          Named{"nvp-ii", 11},    Named{"pup", 12},       Named{"chaos", 16},
    Named{"mux", 18},         Named{"hmp", 20},       Named{"prm", 21},       Named{"xns-idp", 22},
    Named{"trunk-1", 23},     Named{"trunk-2", 24},   Named{"leaf-1", 25},    Named{"leaf-2", 26},
    Named{"rdp", 27},         Named{"irtp", 28},      Named{"iso-tp4", 29},   Named{"netblt", 30},
    Named{"dccp", 33},        Named{"3pc", 34},       Named{"idpr", 35},      Named{"xtp", 36},
    Named{"ddp", 37},         Named{"il", 40},        Named{"ipv6", 41},      Named{"sdrp", 42},
    Named{"idrp", 45},        Named{"rsvp", 46},      Named{"gre", 47},       Named{"dsr", 48},
    Named{"bna", 49},         Named{"esp", 50},       Named{"ah", 51},        Named{"i-nlsp", 52},
    Named{"narp", 54},        Named{"mobile", 55},    Named{"tlsp", 56},      Named{"skip", 57},
    Named{"ipv6-nonxt", 59},  Named{"cftp", 62},      Named{"sat-expak", 64}, Named{"rvd", 66},
    Named{"ippc", 67},        Named{"visa", 70},      Named{"ipcv", 71},      Named{"vmtp", 81},
    Named{"vines", 83},       Named{"iptm", 84},      Named{"dgp", 86},       Named{"tcf", 87},
    Named{"eigrp", 88},       Named{"ospf", 89},      Named{"ospfigp", 89},   Named{"larp", 91},
    Named{"mtp", 92},         Named{"ax.25", 93},     Named{"etherip", 97},   Named{"encap", 98},
    Named{"gmtp", 100},       Named{"ifmp", 101},     Named{"pnni", 102},     Named{"pim", 103},
    Named{"aris", 104},       Named{"scps", 105},     Named{"qnx", 106},      Named{"a-n", 107},
    Named{"ipcomp", 108},     Named{"snp", 109},      Named{"vrrp", 112},     Named{"pgm", 113},
    Named{"l2tp", 115},       Named{"ddx", 116},      Named{"iatp", 117},     Named{"stp", 118},
    Named{"srp", 119},        Named{"uti", 120},      Named{"smp", 121},      Named{"ptp", 123},
    Named{"isis", 124},       Named{"crtp", 126},     Named{"crudp", 127},    Named{"sps", 130},
    Named{"pipe", 131},       Named{"sctp", 132},     Named{"fc", 133},       Named{"udplite", 136},
    Named{"mpls-in-ip", 137}, Named{"manet", 138},    Named{"shim6", 140},    Named{"wesp", 141},
    Named{"rohc", 142},       Named{"ethernet", 143}, Named{"aggfrag", 144},  Named{"nsh", 145},
};

constexpr std::array icmp_types{
    Named{"echo", 8},
    Named{"echo-request", 8},
    Named{"echo-reply", 0},
    Named{"destination-unreachable", 3},
    Named{"source-quench", 4},
    Named{"redirect", 5},
    Named{"router-advertisement", 9},
    Named{"router-solicitation", 10},
    Named{"time-exceeded", 11},
    Named{"parameter-problem", 12},
    Named{"timestamp", 13},
    Named{"timestamp-reply", 14},
    Named{"information-request", 15},
    Named{"information-reply", 16},
    Named{"address-mask-request", 17},
    Named{"address-mask-reply", 18},
    Named{"traceroute", 30},
    Named{"photuris", 40},
    Named{"extended-echo-request", 42},
    Named{"extended-echo-reply", 43},
};

constexpr std::array icmpv6_types{
    Named{"echo", 128},
    Named{"echo-request", 128},
    Named{"echo-reply", 129},
    Named{"destination-unreachable", 1},
    Named{"packet-too-big", 2},
    Named{"time-exceeded", 3},
    Named{"parameter-problem", 4},
    Named{"multicast-listener-query", 130},
    Named{"multicast-listener-report", 131},
    Named{"multicast-listener-done", 132},
    Named{"router-solicitation", 133},
    Named{"router-advertisement", 134},
    Named{"neighbor-solicitation", 135},
    Named{"neighbor-advertisement", 136},
    Named{"redirect", 137},
    Named{"router-renumbering", 138},
    Named{"node-information-query", 139},
    Named{"node-information-response", 140},
    Named{"inverse-neighbor-solicitation", 141},
    Named{"inverse-neighbor-advertisement", 142},
    Named{"multicast-listener-report-v2", 143},
    Named{"home-agent-discovery-request", 144},
    Named{"home-agent-discovery-reply", 145},
    Named{"mobile-prefix-solicitation", 146},
    Named{"mobile-prefix-advertisement", 147},
    Named{"certification-path-solicitation", 148},
    Named{"certification-path-advertisement", 149},
    Named{"multicast-router-advertisement", 151},
    Named{"multicast-router-solicitation", 152},
    Named{"multicast-router-termination", 153},
    Named{"fmipv6", 154},
    Named{"rpl-control", 155},
    Named{"extended-echo-request", 160},
    Named{"extended-echo-reply", 161},
};

std::span<const Named> types_of(Protocol protocol)
{
    return protocol == Protocol::icmpv6 ? std::span<const Named>(icmpv6_types) : std::span<const Named>(icmp_types);
}

std::optional<std::uint8_t> number_of(std::span<const Named> table, std::string_view name)
{
    const auto found = std::find_if(table.begin(), table.end(), [name](const Named& one) { return one.name == name; });
    return found != table.end() ? std::optional(found->number) : std::nullopt;
}

std::string_view name_of(std::span<const Named> table, std::uint8_t number)
{
    const auto found =
        std::find_if(table.begin(), table.end(), [number](const Named& one) { return one.number == number; });
    return found != table.end() ? found->name : std::string_view();
}

std::vector<std::string_view> names_of(std::span<const Named> table)
{
    std::vector<std::string_view> names;
    for (const auto& one : table)
        names.push_back(one.name);
    return names;
}

std::string word_of(std::string_view protocol, std::string_view name, unsigned number)
{
    return name.empty() ? fmt::format("{}/{}", protocol, number) : fmt::format("{}/{}", protocol, name);
}

} // namespace

std::optional<std::uint8_t> protocol_number(std::string_view name)
{
    return number_of(protocols, name);
}

std::string_view protocol_name(std::uint8_t number)
{
    return name_of(protocols, number);
}

std::vector<std::string_view> protocol_names()
{
    return names_of(protocols);
}

std::optional<std::uint8_t> icmp_type(Protocol protocol, std::string_view name)
{
    return number_of(types_of(protocol), name);
}

std::string_view icmp_type_name(Protocol protocol, std::uint8_t type)
{
    return name_of(types_of(protocol), type);
}

std::vector<std::string_view> icmp_type_names(Protocol protocol)
{
    return names_of(types_of(protocol));
}

std::string service_word(std::uint8_t number, std::uint16_t port)
{
    switch (static_cast<Protocol>(number)) {
    case Protocol::tcp: return fmt::format("tcp/{}", port);
    case Protocol::udp: return fmt::format("udp/{}", port);
    case Protocol::icmp: return word_of("icmp", icmp_type_name(Protocol::icmp, static_cast<std::uint8_t>(port)), port);
    case Protocol::icmpv6:
        return word_of("icmpv6", icmp_type_name(Protocol::icmpv6, static_cast<std::uint8_t>(port)), port);
    case Protocol::other: break;
    }
    return word_of("proto", protocol_name(number), number);
}

} // namespace bulkhead::policy
