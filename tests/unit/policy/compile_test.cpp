// SPDX-License-Identifier: Apache-2.0
#include "common/abi/bulkhead.h"
#include "common/policy/compile.h"
#include "common/policy/describe.h"
#include "common/policy/parse.h"
#include "tests/harness/random_policy.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

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

std::string shop()
{
    std::ifstream file(BULKHEAD_SOURCE_DIR "/policies/examples/shop.yaml");
    std::stringstream text;
    text << file.rdbuf();
    auto result = text.str();
    // Where rules stand is no part of what is compared.
    EXPECT_FALSE(result.empty());
    return result;
}

Inventory shop_hosts()
{
    const auto host = [](const std::string& role, const char* v4, const char* v6) {
        return Workload{role, {{"app", "shop"}, {"role", role}}, {*IpAddress::parse(v4), *IpAddress::parse(v6)}};
    };
    return {{host("web", "10.77.0.11", "fd77::11"), host("api", "10.77.0.12", "fd77::12"),
             host("db", "10.77.0.13", "fd77::13")}};
}

std::vector<std::string> lines_for(const PolicySet& policy, const Inventory& inventory, const Labels& labels,
                                   const std::string& name)
{
    const auto merged = merge_declared(inventory, policy);
    const auto identities = build_identities(policy, merged, harness::counting_numbers());
    auto host = compile_host(policy, identities.identities, labels, name).value();
    for (auto& rule : host.rules)
        rule.where.clear();
    return describe(host);
}

using Lines = std::vector<std::string>;

// Identities are numbered in the order of workload names: api 1, db 2, web 3.
TEST(CompileShop, Web)
{
    EXPECT_EQ(
        lines_for(parsed(shop()), shop_hosts(), {{"app", "shop"}, {"role", "web"}}, "web"),
        (Lines{
            "segments: shop-web",
            "default active inbound: not judged",
            "default active outbound: not judged",
            "default shadow inbound: deny (shop-web)",
            "default shadow outbound: deny (shop-web)",
            "sessions: keep",
            "shop-api/web-to-api allow outbound to identity 1 service tcp/8000 in active+shadow",
            "shop-web/clients-to-web allow inbound from 10.77.0.1/32, fd77::1/128 service tcp/8080 in active+shadow",
        }));
}

TEST(CompileShop, Api)
{
    EXPECT_EQ(lines_for(parsed(shop()), shop_hosts(), {{"app", "shop"}, {"role", "api"}}, "api"),
              (Lines{
                  "segments: shop-api",
                  "default active inbound: not judged",
                  "default active outbound: not judged",
                  "default shadow inbound: deny (shop-api)",
                  "default shadow outbound: deny (shop-api)",
                  "sessions: keep",
                  "shop-api/web-to-api allow inbound from identity 3 service tcp/8000 in active+shadow",
                  "shop-db/api-to-db allow outbound to identity 2 service tcp/5432 in active+shadow",
              }));
}

TEST(CompileShop, DatabaseInForce)
{
    auto text = shop();
    for (std::size_t at = 0; (at = text.find("mode: test", at)) != std::string::npos;)
        text.replace(at, 10, "mode: enforce");
    EXPECT_EQ(lines_for(parsed(text), shop_hosts(), {{"app", "shop"}, {"role", "db"}}, "db"),
              (Lines{
                  "segments: shop-db",
                  "default active inbound: deny (shop-db)",
                  "default active outbound: deny (shop-db)",
                  "default shadow inbound: deny (shop-db)",
                  "default shadow outbound: deny (shop-db)",
                  "sessions: cut",
                  "shop-db/api-to-db allow inbound from identity 1 service tcp/5432 in active+shadow",
                  "shop-db/no-remote-shells deny inbound from any service tcp/22, tcp/23 in active+shadow",
              }));
}

TEST(CompileShop, AHostOutsideIsNotJudged)
{
    EXPECT_EQ(lines_for(parsed(shop()), shop_hosts(), {{"app", "crm"}}, "crm"),
              (Lines{
                  "segments: ",
                  "default active inbound: not judged",
                  "default active outbound: not judged",
                  "default shadow inbound: not judged",
                  "default shadow outbound: not judged",
                  "sessions: keep",
              }));
}

const char* const two_segments = R"(version: 1
segment: a
selector: {app: shop}
mode: test
inbound: allow
sessions: drain 60s
deny:
  - {id: d, from: {segment: b}, service: ssh}
  - {id: p, to: {segment: b}, service: tcp/25, process: {exe: /usr/bin/curl}}
allow:
  - {id: p2, to: {segment: b}, service: tcp/80, process: {exe: /usr/bin/curl}}
---
version: 1
segment: b
selector: {role: "*"}
mode: enforce
sessions: drain 10s
)";

TEST(Compile, ProcessConditionsBindTheDeclaringEndAndDeniesWithOneStayThere)
{
    const Inventory hosts{{{"x", {{"app", "shop"}}, {}}, {"y", {{"role", "db"}}, {}}}};
    EXPECT_EQ(lines_for(parsed(two_segments), hosts, {{"app", "shop"}}, "x"),
              (Lines{
                  "segments: a",
                  "default active inbound: not judged",
                  "default active outbound: not judged",
                  "default shadow inbound: allow (a)",
                  "default shadow outbound: allow (a)",
                  "sessions: keep",
                  "a/d deny inbound from identity 2 service tcp/22 in shadow",
                  "a/p deny outbound to identity 2 service tcp/25 process (exe /usr/bin/curl) in shadow",
                  "a/p2 allow outbound to identity 2 service tcp/80 process (exe /usr/bin/curl) in active+shadow",
              }));
    EXPECT_EQ(lines_for(parsed(two_segments), hosts, {{"role", "db"}}, "y"),
              (Lines{
                  "segments: b",
                  "default active inbound: deny (b)",
                  "default active outbound: allow (b)",
                  "default shadow inbound: deny (b)",
                  "default shadow outbound: allow (b)",
                  "sessions: drain 10s",
                  "a/d deny outbound to identity 1 service tcp/22 in shadow",
                  "a/p2 allow inbound from identity 1 service tcp/80 in active+shadow",
              }));
}

TEST(Compile, TheStrictestEnforcingSegmentDecidesSessions)
{
    auto policy = parsed(two_segments);
    const Labels both{{"app", "shop"}, {"role", "web"}};
    const auto sessions = [&] { return compile_host(policy, {}, both, "x").value().sessions; };
    EXPECT_EQ(sessions(), (Sessions{Sessions::Kind::drain, std::chrono::seconds(10)}));
    policy.segments[0].mode = Mode::enforce;
    EXPECT_EQ(sessions(), (Sessions{Sessions::Kind::drain, std::chrono::seconds(10)}));
    policy.segments[0].sessions = {Sessions::Kind::cut, {}};
    EXPECT_EQ(sessions(), (Sessions{Sessions::Kind::cut, {}}));
}

TEST(Compile, ASegmentThatIsItsOwnPeerJudgesBothDirections)
{
    const auto policy = parsed("version: 1\nsegment: a\nselector: {app: shop}\nmode: enforce\nallow:\n"
                               "  - {id: self, from: {segment: a}, service: tcp/7000}\n");
    const Inventory hosts{{{"x", {{"app", "shop"}}, {}}}};
    const auto lines = lines_for(policy, hosts, {{"app", "shop"}}, "x");
    ASSERT_EQ(lines.size(), 8U);
    EXPECT_EQ(lines[6], "a/self allow outbound to identity 1 service tcp/7000 in active+shadow");
    EXPECT_EQ(lines[7], "a/self allow inbound from identity 1 service tcp/7000 in active+shadow");
}

TEST(Compile, ANamedWorkloadHasAnIdentityOfItsOwn)
{
    const auto policy = parsed("version: 1\nsegment: a\nselector: {app: shop}\nallow:\n"
                               "  - {id: r, to: {workload: y}, service: ssh}\n"
                               "---\nversion: 1\nworkloads: [{name: y, labels: {env: prod}}]\n");
    const Inventory hosts{{{"x", {{"app", "shop"}}, {}}, {"y", {{"app", "shop"}}, {*IpAddress::parse("10.0.0.2")}}}};
    const auto merged = merge_declared(hosts, policy);
    EXPECT_EQ(merged.workloads[1].labels, (Labels{{"app", "shop"}, {"env", "prod"}}));
    const auto identities = build_identities(policy, merged, harness::counting_numbers());
    ASSERT_EQ(identities.identities.size(), 2U);
    EXPECT_EQ(identities.identities[1], (Identity{2, {{"app", "shop"}, {"env", "prod"}}, "y", {"a"}}));
    EXPECT_EQ(identities.addresses.at(*IpAddress::parse("10.0.0.2")), (AddressEntry{2, "y"}));
    const auto host = compile_host(policy, identities.identities, {}, "y").value();
    ASSERT_EQ(host.rules.size(), 1U);
    EXPECT_EQ(host.rules[0].direction, Direction::inbound);
    EXPECT_EQ(host.rules[0].peers.identities, (std::vector<IdentityId>{1, 2}));
}

TEST(Compile, DeclaredWorkloadsJoinTheInventory)
{
    const auto policy =
        parsed("version: 1\nworkloads: [{name: z, ip: 10.0.0.9, labels: {a: b}}, {name: x, ip: 10.0.0.8}]\n");
    const auto merged = merge_declared({{{"x", {{"k", "v"}}, {*IpAddress::parse("10.0.0.1")}}}}, policy);
    ASSERT_EQ(merged.workloads.size(), 2U);
    EXPECT_EQ(merged.workloads[0].addresses.size(), 2U);
    EXPECT_EQ(merged.workloads[1].name, "z");
    EXPECT_EQ(merged.workloads[1].labels, (Labels{{"a", "b"}}));
}

TEST(Compile, MoreProcessConditionsThanAHostCanTellApart)
{
    std::string text = "version: 1\nsegment: a\nselector: {app: shop}\nallow:\n";
    for (int i = 0; i < BH_CLASSES - 1; ++i)
        text += fmt::format("  - {{id: r{}, from: any, service: ssh, process: {{exe: /bin/{}}}}}\n", i, i);
    const auto fits = compile_host(parsed(text), {}, {{"app", "shop"}}, "x");
    ASSERT_TRUE(fits.has_value());
    EXPECT_EQ(fits->processes.size(), BH_CLASSES - 1U);
    text += "  - {id: last, from: any, service: ssh, process: {exe: /bin/last}}\n";
    const auto over = compile_host(parsed(text), {}, {{"app", "shop"}}, "x");
    ASSERT_FALSE(over.has_value());
    EXPECT_EQ(over.error().kind, ErrorKind::invalid);
}

TEST(Compile, TextAndStructureMeanTheSame)
{
    const auto seed = harness::seed_from_environment();
    SCOPED_TRACE("BULKHEAD_SEED=" + std::to_string(seed));
    harness::RandomPolicy random(seed);
    for (int i = 0; i < 300; ++i) {
        const auto scenario = random.scenario();
        const SourceFile file{"p.yaml", harness::to_yaml(scenario.policy)};
        const auto outcome = parse({&file, 1});
        for (const auto& diagnostic : outcome.diagnostics) // the one thing that worlds do and documents may not
            ASSERT_NE(diagnostic.message.find("denies exactly what"), std::string::npos)
                << diagnostic.to_string() << "\n"
                << file.text;
        const auto own = random.host(scenario);
        const auto identities = build_identities(scenario.policy, scenario.inventory, harness::counting_numbers());
        auto written = compile_host(scenario.policy, identities.identities, own.labels, own.name).value();
        auto read = compile_host(outcome.policy, identities.identities, own.labels, own.name).value();
        for (auto& rule : read.rules)
            rule.where.clear();
        ASSERT_EQ(written, read) << file.text;
    }
}

} // namespace
} // namespace bulkhead::policy
