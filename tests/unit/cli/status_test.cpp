// SPDX-License-Identifier: Apache-2.0
#include "cli_session.h"

namespace bulkhead::cli {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

class StatusCommand : public CliSession {
protected:
    StatusCommand()
    {
        auto& status = agent.status;
        status.set_hostname("db-1");
        status.set_source("controller ctl:7443");
        status.set_policy_version(3);
        status.set_generation(7);
        status.set_enforcing(true);
        status.set_refusal("version 4: no such user");
        status.add_segments("shop-db");
        auto& failsafe = *status.add_failsafes();
        failsafe.set_name("failsafe/ssh");
        failsafe.set_direction("inbound");
        failsafe.set_services("tcp/22");
        auto& counter = *status.add_counters();
        counter.set_name("denied_in");
        counter.set_value(12);
        status.set_spool_next_seq(101);
        status.set_spool_first_seq(1);
        status.set_acked_seq(90);
        status.set_records_lost(5);
    }
};

TEST_F(StatusCommand, LocalTellsEnforcementFailsafesAndSpool)
{
    const auto outcome = run({"--local", "status"});
    EXPECT_EQ(outcome.code, 0);
    for (const char* word : {"db-1", "controller ctl:7443, NOT connected", "version 3 (generation 7)", "no such user",
                             "shop-db", "failsafe/ssh", "1 to 100 in the spool", "delivered up to 90", "lost 5"})
        EXPECT_THAT(outcome.out, HasSubstr(word));
    EXPECT_THAT(outcome.out, ContainsRegex("denied_in +12"));
}

TEST_F(StatusCommand, TellsWhatWasTamperedWithAndWhatIsNotAsItShouldBe)
{
    auto& tampering = *agent.status.add_tampering();
    tampering.set_what("the program at connect4 was detached");
    tampering.set_outcome("put right");
    agent.status.add_warnings("listeners: 14000 of 16384");
    agent.status.add_unmatched("user 'backup': no such user on this host");
    const auto outcome = run({"--local", "status"});
    EXPECT_THAT(outcome.out, HasSubstr("connect4 was detached: put right"));
    EXPECT_THAT(outcome.out, ContainsRegex("no process +user 'backup': no such user on this host"));
    EXPECT_THAT(outcome.out, HasSubstr("14000 of 16384"));
    const auto json = run({"--local", "status", "-o", "json"}).json();
    EXPECT_EQ(json["tampering"][0]["outcome"], "put right");
    EXPECT_EQ(json["warnings"][0], "listeners: 14000 of 16384");
    EXPECT_EQ(json["unmatched"][0], "user 'backup': no such user on this host");
}

TEST_F(StatusCommand, TellsWhereTheGuardIs)
{
    EXPECT_THAT(run({"--local", "status"}).out, HasSubstr(": on no interface; inbound door in 0 other"));
    auto& guard = *agent.status.mutable_guard();
    guard.set_mode("always");
    guard.set_attached("tcx");
    guard.add_interfaces("eth0");
    guard.add_interfaces("eth1");
    guard.set_namespaces(1);
    EXPECT_THAT(run({"--local", "status"}).out,
                ContainsRegex("guard +always: tcx on eth0, eth1; inbound door in 1 other network namespace\n"));
    EXPECT_EQ(run({"--local", "status", "-o", "json"}).json()["guard"]["interfaces"][1], "eth1");
}

TEST_F(StatusCommand, AgentStatusLocalIsTheSame)
{
    EXPECT_EQ(run({"--local", "status"}).out, run({"agent", "status", "--local"}).out);
    EXPECT_EQ(run({"--local", "status", "-o", "json"}).json()["spool"]["acked_seq"], 90);
}

TEST_F(StatusCommand, WithoutLocalItIsTheControllers)
{
    admin.status.set_agents(3);
    admin.status.set_agents_connected(2);
    EXPECT_THAT(run({"status"}).out, HasSubstr("2 of 3 connected"));
    EXPECT_EQ(run({"status", "-o", "json"}).json()["agents"], 3);
}

} // namespace
} // namespace bulkhead::cli
