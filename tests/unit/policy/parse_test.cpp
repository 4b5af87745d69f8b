// SPDX-License-Identifier: Apache-2.0
#include "common/policy/describe.h"
#include "common/policy/known_services.h"
#include "common/policy/parse.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace bulkhead::policy {
namespace {

PolicySet parsed(const std::string& text)
{
    const SourceFile file{"p.yaml", text};
    auto outcome = parse({&file, 1});
    for (const auto& diagnostic : outcome.diagnostics)
        ADD_FAILURE() << diagnostic.to_string();
    return std::move(outcome.policy);
}

Cidr cidr(const char* text)
{
    return Cidr::parse(text).value();
}

TEST(Parse, WhatIsLeftOutHasItsDocumentedDefault)
{
    const auto policy = parsed("version: 1\nsegment: s\nselector: {app: shop}\n");
    ASSERT_EQ(policy.segments.size(), 1U);
    const auto& segment = policy.segments[0];
    EXPECT_EQ(segment.mode, Mode::test);
    EXPECT_EQ(segment.inbound, Action::deny);
    EXPECT_EQ(segment.outbound, Action::allow);
    EXPECT_EQ(segment.sessions, Sessions{});
    EXPECT_TRUE(segment.rules.empty());
}

TEST(Parse, ASegmentSaysAllThatItCan)
{
    const auto policy = parsed(R"(version: 1
segment: db
description: |
  Orders
  and stock
owner: dba@example.org
selector: {app: shop, role: [db, replica], env: "*"}
mode: enforce
inbound: allow
outbound: deny
sessions: drain 1m30s
deny:
  - {id: no, to: any, service: any, reason: CHG-1}
allow:
  - id: in
    from: {cidr: [10.9.0.0/24, "2001:db8:9::/64", 192.0.2.1]}
    service: [ssh, tcp/5432, udp/8000-8100]
    process: {unit: postgresql.service, exe: /usr/lib/**, user: postgres, container: ABCDEF012345}
)");
    ASSERT_EQ(policy.segments.size(), 1U);
    const auto& segment = policy.segments[0];
    EXPECT_EQ(segment.description, "Orders\nand stock");
    EXPECT_EQ(segment.owner, "dba@example.org");
    EXPECT_EQ(segment.selector.terms, (std::map<std::string, std::vector<std::string>>{
                                          {"app", {"shop"}}, {"env", {}}, {"role", {"db", "replica"}}}));
    EXPECT_EQ(segment.mode, Mode::enforce);
    EXPECT_EQ(segment.inbound, Action::allow);
    EXPECT_EQ(segment.outbound, Action::deny);
    EXPECT_EQ(segment.sessions, (Sessions{Sessions::Kind::drain, std::chrono::seconds(90)}));
    ASSERT_EQ(segment.rules.size(), 2U);
    const auto& in = segment.rules[0]; // allow first, whatever the order of the lists
    EXPECT_EQ(in.id, "in");
    EXPECT_EQ(in.where.to_string(), "p.yaml:15:5");
    EXPECT_EQ(in.from->cidrs, (std::vector{cidr("10.9.0.0/24"), cidr("2001:db8:9::/64"), cidr("192.0.2.1/32")}));
    EXPECT_EQ(describe(in.services), "tcp/22, tcp/5432, udp/8000-8100");
    EXPECT_EQ(describe(*in.process), "unit postgresql.service, exe /usr/lib/**, user postgres, container abcdef012345");
    EXPECT_EQ(segment.rules[1].action, Action::deny);
    EXPECT_EQ(describe(segment.rules[1].services), "any");
    EXPECT_EQ(segment.rules[1].reason, "CHG-1");
}

TEST(Parse, DefinitionsMayShareADocumentAndComeAfterTheirUse)
{
    const auto policy = parsed(R"(version: 1
segment: s
selector: {app: shop}
allow:
  - {id: a, from: {addresses: office}, service: web}
  - {id: b, from: {workload: legacy-1}, service: ssh}
  - {id: c, from: {segment: s}, service: dns}
  - {id: d, to: {labels: {role: [a, b]}}, service: any}
---
version: 1
services: {web: [http, tcp/8443], ssh: tcp/2222}
addresses: {office: [192.0.2.0/24, 2001:db8::1]}
workloads:
  - {name: legacy-1, ip: [10.1.7.7, "fd00::7"], labels: {app: legacy}}
  - {name: agent.example.org, labels: {role: a}}
)");
    const auto& rules = policy.segments.at(0).rules;
    EXPECT_EQ(describe(rules[0].services), "tcp/80, tcp/8443");
    EXPECT_EQ(describe(rules[1].services), "tcp/2222") << "a definition goes before the known service of that name";
    EXPECT_EQ(describe(rules[2].services), "tcp/53, udp/53");
    EXPECT_EQ(policy.address_groups.at("office"), (std::vector{cidr("192.0.2.0/24"), cidr("2001:db8::1/128")}));
    ASSERT_EQ(policy.workloads.size(), 2U);
    EXPECT_EQ(policy.workloads[0].addresses.size(), 2U);
    EXPECT_EQ(policy.workloads[1].labels, (Labels{{"role", "a"}}));
}

TEST(Parse, SegmentsComeByNameFromSeveralFiles)
{
    const std::vector<SourceFile> files{{"1", "version: 1\nsegment: b\nselector: {a: b}\n"},
                                        {"2", "version: 1\nsegment: a\nselector: {a: b}\n"}};
    const auto outcome = parse(files);
    ASSERT_TRUE(outcome.ok());
    EXPECT_EQ(outcome.policy.segments[0].name, "a");
    EXPECT_NE(outcome.policy.find_segment("b"), nullptr);
    EXPECT_EQ(outcome.policy.find_segment("c"), nullptr);
}

TEST(Parse, WordsThatOtherYamlReadersTurnIntoSomethingElseStayText)
{
    const auto policy = parsed("version: 1\nsegment: on\nselector: {env: no, tier: 1, size: 0x10, \"y\": 1e3}\n");
    EXPECT_EQ(policy.segments.at(0).name, "on");
    EXPECT_EQ(policy.segments[0].selector.terms,
              (std::map<std::string, std::vector<std::string>>{
                  {"env", {"no"}}, {"size", {"0x10"}}, {"tier", {"1"}}, {"y", {"1e3"}}}));
}

TEST(Parse, ByteOrderMarkAndCrLfAreNoErrors)
{
    EXPECT_EQ(parsed("\xef\xbb\xbfversion: 1\r\nsegment: s\r\nselector: {a: b}\r\n").segments.size(), 1U);
}

TEST(Parse, PortsFromEndToEnd)
{
    const auto policy =
        parsed("version: 1\nservices: {a: [tcp/0, tcp/65535, udp/0-65535], b: [tcp/0-65535, udp/0-65535]}\n");
    EXPECT_EQ(describe(policy.services.at("a")), "tcp/0, tcp/65535, udp/0-65535");
    EXPECT_EQ(describe(policy.services.at("b")), "tcp/0-65535, udp/0-65535");
}

// What a word means, as the first; what it is called afterwards, as the second.
TEST(Parse, ServicesWithoutPortsAreNamedByTypeAndNumber)
{
    const std::pair<const char*, const char*> words[] = {
        {"any", "any"},
        {"[any, ssh, icmp/8]", "any"},
        {"icmp", "icmp"},
        {"icmpv6", "icmpv6"},
        {"icmp/0-255", "icmp/0-255"},
        {"icmp/echo", "icmp/echo"},
        {"icmp/echo-request", "icmp/echo"},
        {"[icmp/8, icmpv6/128]", "icmp/echo"},
        {"icmp/8", "icmp/8"},
        {"icmpv6/128", "icmpv6/echo"},
        {"icmp/timestamp", "icmp/timestamp"},
        {"icmp/packet-too-big", "icmpv6/packet-too-big"},
        {"icmpv6/neighbor-solicitation", "icmpv6/neighbor-solicitation"},
        {"[icmp/redirect, icmp/200]", "icmp/redirect, icmp/200"},
        {"icmpv6/200-210", "icmpv6/200-210"},
        {"[proto/gre, proto/50, proto/ah]", "proto/gre, proto/esp, proto/ah"},
        {"[proto/ipip, proto/ipv4, proto/4]", "proto/ipip"},
        {"[proto/sctp, proto/igmp, proto/ospf]", "proto/igmp, proto/ospf, proto/sctp"},
        {"proto/253", "proto/253"},
        {"[icmp/echo, https, proto/esp]", "icmp/echo, tcp/443, proto/esp"},
    };
    for (const auto& [written, called] : words) {
        const auto policy = parsed(std::string("version: 1\nservices: {a: ") + written + "}\n");
        EXPECT_EQ(describe(policy.services.at("a")), called) << written;
    }
    const auto echo = parsed("version: 1\nservices: {a: icmp/echo}\n").services.at("a");
    EXPECT_EQ(echo, (std::vector<ServiceAtom>{{Protocol::icmp, {8, 8}}, {Protocol::icmpv6, {128, 128}}}));
}

TEST(Parse, ExpiryAndLoopback)
{
    const auto policy = parsed("version: 1\nsegment: s\nselector: {a: b}\nloopback: deny\nallow:\n"
                               "  - {id: r, from: any, service: ssh, expires: 2026-12-01T19:00:00+01:00}\n"
                               "deny:\n"
                               "  - {id: d, from: any, service: ssh, expires: 2026-12-01T18:00:00.5Z}\n"
                               "---\nversion: 1\nsegment: t\nselector: {a: c}\n");
    const auto& segment = policy.segments.at(0);
    EXPECT_EQ(segment.loopback, Action::deny);
    ASSERT_TRUE(segment.rules.at(0).expires && segment.rules.at(1).expires);
    EXPECT_EQ(format_rfc3339(*segment.rules[0].expires), "2026-12-01T18:00:00.000000Z");
    EXPECT_EQ(format_rfc3339(*segment.rules[1].expires), "2026-12-01T18:00:00.500000Z");
    EXPECT_EQ(policy.segments.at(1).loopback, Action::allow);
}

TEST(KnownServices, AreSortedAndFound)
{
    const auto services = known_services();
    EXPECT_TRUE(
        std::is_sorted(services.begin(), services.end(), [](const auto& a, const auto& b) { return a.name < b.name; }));
    for (const auto& service : services) {
        EXPECT_EQ(find_known_service(service.name), &service);
        EXPECT_TRUE(std::is_sorted(service.atoms.begin(), service.atoms.end())) << service.name;
    }
    EXPECT_EQ(find_known_service("no-such"), nullptr);
}

} // namespace
} // namespace bulkhead::policy
