// SPDX-License-Identifier: Apache-2.0
#include "cli_session.h"

namespace bulkhead::cli {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

class Agents : public CliSession {};

TEST_F(Agents, StatusNamesStateLossAndRefusal)
{
    auto& good = *admin.agents.add_agents();
    good.set_name("web");
    good.set_connected(true);
    good.set_policy_version(3);
    good.set_enforced(true);
    auto& bad = *admin.agents.add_agents();
    bad.set_name("db");
    bad.set_policy_version(2);
    bad.set_refusal("kernel map is full");
    bad.set_records_lost(17);
    const auto table = run({"agent", "status"}).out;
    EXPECT_THAT(table, ContainsRegex("web +connected +version 3"));
    EXPECT_THAT(table, ContainsRegex("db +away, seen never +refused, keeps version 2 +0 +17"));
    EXPECT_THAT(table, HasSubstr("kernel map is full"));
    const auto json = run({"agent", "status", "db", "-o", "json"}).json();
    ASSERT_EQ(json.size(), 1U);
    EXPECT_EQ(json[0]["records_lost"], 17);
    EXPECT_EQ(run({"agent", "status", "nobody"}).code, 1);
}

TEST_F(Agents, TokenIsAloneOnStdout)
{
    admin.token.set_token("bulkhead-join-1.secret.fingerprint");
    const auto outcome =
        run({"agent", "token", "create", "--for", "2h", "--uses", "3", "--label", "app=shop", "--label", "role=db"});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.out, "bulkhead-join-1.secret.fingerprint\n");
    EXPECT_THAT(outcome.err, HasSubstr("--join"));
    EXPECT_EQ(admin.token_asked.ttl_seconds(), 7200U);
    EXPECT_EQ(admin.token_asked.uses(), 3U);
    EXPECT_EQ(admin.token_asked.labels().at("role"), "db");
    (void)run({"agent", "token", "create"});
    EXPECT_EQ(admin.token_asked.ttl_seconds(), 3600U);
    EXPECT_EQ(admin.token_asked.uses(), 1U);
    EXPECT_EQ(run({"agent", "token", "create", "--label", "x"}).code, 2);
}

} // namespace
} // namespace bulkhead::cli
