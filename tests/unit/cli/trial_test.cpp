// SPDX-License-Identifier: Apache-2.0
// policy apply --confirm, confirm, rollback, history; workload quarantine and release.
#include "cli_session.h"

namespace bulkhead::cli {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::int64_t noon_us = 1'795'262'400'000'000; // 2026-11-21T12:00:00Z

class Rollout : public CliSession {
protected:
    std::string policy() { return write("p.yaml", "version: 1\nsegment: a\nselector: {app: a}\n"); }
};

TEST_F(Rollout, ConfirmWindowIsSentAndTheWayOnIsSaid)
{
    admin.apply_reply.set_version(5);
    admin.apply_reply.set_trial_until_us(noon_us);
    admin.apply_reply.set_back_to(4);
    const auto outcome = run({"policy", "apply", policy(), "--confirm", "5m"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(admin.applied.confirm_ms(), 300'000U);
    EXPECT_FALSE(admin.applied.force());
    EXPECT_THAT(outcome.out, HasSubstr("version 5 on trial on 0/0 agents"));
    EXPECT_THAT(outcome.err, HasSubstr("Unless it is confirmed by 2026-11-21T12:00:00.000000Z, every host goes back to "
                                       "version 4 by itself."));
    EXPECT_THAT(outcome.err, HasSubstr("bulkheadctl policy confirm"));
    EXPECT_THAT(outcome.err, HasSubstr("bulkheadctl policy rollback"));
    const auto json = run({"policy", "apply", policy(), "--confirm", "5m", "--force", "-o", "json"}).json();
    EXPECT_EQ(json["trial_until"], "2026-11-21T12:00:00.000000Z");
    EXPECT_EQ(json["back_to"], 4);
    EXPECT_TRUE(admin.applied.force());
}

TEST_F(Rollout, WithoutAWindowItIsForGood)
{
    admin.apply_reply.set_version(5);
    const auto outcome = run({"policy", "apply", policy()});
    EXPECT_EQ(admin.applied.confirm_ms(), 0U);
    EXPECT_THAT(outcome.out, HasSubstr("version 5 enforced"));
    EXPECT_THAT(outcome.err, IsEmpty());
}

TEST_F(Rollout, WrongDurationsAreWrongUsage)
{
    for (const auto* wrong : {"5", "m", "5x", "-5m", "9s", "25h", "9999999999999999999h", "99999999999999d", ""}) {
        const auto outcome = run({"policy", "apply", policy(), "--confirm", wrong});
        EXPECT_EQ(outcome.code, 2) << wrong;
        EXPECT_THAT(outcome.err, HasSubstr("--confirm")) << wrong;
    }
    EXPECT_THAT(run({"policy", "apply", policy(), "--confirm", "9s"}).err, HasSubstr("9s is not from 10s to 1d"));
    EXPECT_EQ(admin.calls, 0);
    for (const auto* right : {"10s", "24h", "1d", "90000ms"})
        EXPECT_EQ(run({"policy", "apply", policy(), "--confirm", right}).code, 0) << right;
}

TEST_F(Rollout, ARefusalIsExitCode5)
{
    admin.refuse = {grpc::StatusCode::ABORTED, "version 2 of alice is on trial until noon"};
    const auto outcome = run({"policy", "apply", policy()});
    EXPECT_EQ(outcome.code, 5);
    EXPECT_THAT(outcome.err, HasSubstr("version 2 of alice is on trial until noon"));
    EXPECT_THAT(outcome.err, Not(HasSubstr("context of an admin")));
    EXPECT_EQ(run({"policy", "confirm"}).code, 5);
    EXPECT_EQ(run({"policy", "rollback"}).code, 5);
}

TEST_F(Rollout, ConfirmAndRollback)
{
    admin.apply_reply.set_version(5);
    EXPECT_EQ(run({"policy", "confirm"}).code, 0);
    EXPECT_EQ(admin.confirmed.version(), 0U);
    EXPECT_EQ(run({"policy", "confirm", "5"}).code, 0);
    EXPECT_EQ(admin.confirmed.version(), 5U);
    EXPECT_EQ(run({"policy", "rollback"}).code, 0);
    EXPECT_EQ(admin.rolled_back.version(), 0U);
    EXPECT_EQ(run({"policy", "rollback", "3", "-m", "why"}).code, 0);
    EXPECT_EQ(admin.rolled_back.version(), 3U);
    EXPECT_EQ(admin.rolled_back.message(), "why");
    EXPECT_EQ(run({"policy", "rollback", "three"}).code, 2);
}

TEST_F(Rollout, AnAgentAloneHasNone)
{
    EXPECT_EQ(run({"--local", "policy", "apply", policy(), "--confirm", "5m"}).code, 2);
    EXPECT_EQ(admin.calls, 0);
}

TEST_F(Rollout, HistoryShowsWhatBecameOfEach)
{
    const auto add = [this](std::uint64_t version, const char* status, bool tried, bool confirmed) {
        auto& edition = *admin.policies.add_editions();
        edition.set_version(version);
        edition.set_author("alice");
        edition.set_created_us(noon_us);
        edition.set_status(status);
        edition.set_trial_until_us(tried ? noon_us + 300'000'000 : 0);
        edition.set_ended_us(tried && std::string(status) != "on-trial" ? noon_us + 60'000'000 : 0);
        edition.set_ended_by(tried ? "bob" : "");
        edition.set_confirmed(confirmed);
    };
    add(4, "on-trial", true, false);
    add(3, "lapsed", true, false);
    add(2, "superseded", true, true);
    add(1, "superseded", false, false);
    const auto outcome = run({"policy", "history"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, ContainsRegex("4 .*alice +on-trial +until 2026-11-21T12:05:00"));
    EXPECT_THAT(outcome.out, ContainsRegex("3 .*lapsed +at 2026-11-21T12:01:00.000000Z by bob"));
    EXPECT_THAT(outcome.out, ContainsRegex("2 .*superseded +confirmed at 2026-11-21T12:01:00.000000Z by bob"));
    const auto json = run({"policy", "history", "-o", "json"}).json();
    EXPECT_EQ(json[0]["status"], "on-trial");
    EXPECT_EQ(json[0]["trial_until"], "2026-11-21T12:05:00.000000Z");
    EXPECT_TRUE(json[0]["ended"].is_null());
    EXPECT_TRUE(json[3]["trial_until"].is_null());
    EXPECT_EQ(json[2]["confirmed"], true);
}

TEST_F(Rollout, TheLocalStatusShowsATrialAndALapse)
{
    agent.status.set_enforcing(true);
    auto& standing = *agent.status.mutable_standing();
    standing.set_policy_version(5);
    standing.set_confirmed_version(4);
    standing.set_trial_left_ms(61'500);
    EXPECT_THAT(run({"--local", "status"}).out,
                HasSubstr("version 5: back to version 4 in 62 s unless it is confirmed"));
    EXPECT_EQ(run({"--local", "status", "-o", "json"}).json()["trial"]["back_to"], 4);
    standing.set_trial_left_ms(0);
    standing.set_lapsed_version(5);
    EXPECT_THAT(run({"--local", "status"}).out, HasSubstr("version 5 was not confirmed"));
}

class QuarantineCommand : public CliSession {
protected:
    QuarantineCommand()
    {
        admin.quarantined.set_name("db");
        admin.quarantined.set_has_agent(true);
        admin.quarantined.set_connected(true);
        admin.quarantined.set_quarantined(true);
        admin.quarantined.mutable_quarantine()->set_by("alice");
        admin.quarantined.mutable_quarantine()->set_reason("incident 7");
    }
};

TEST_F(QuarantineCommand, SendsWhatItIsTold)
{
    const auto outcome = run({"workload", "quarantine", "db", "--reason", "incident 7", "--for", "1h"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(admin.quarantine_asked.on());
    EXPECT_EQ(admin.quarantine_asked.name(), "db");
    EXPECT_EQ(admin.quarantine_asked.reason(), "incident 7");
    EXPECT_EQ(admin.quarantine_asked.for_ms(), 3'600'000U);
    EXPECT_THAT(outcome.out, ContainsRegex("quarantine +by alice since .*: incident 7"));
    EXPECT_EQ(run({"workload", "quarantine", "db", "-o", "json"}).json()["quarantine"]["in_force"], true);
    EXPECT_EQ(run({"workload", "quarantine"}).code, 2);
    EXPECT_EQ(run({"workload", "quarantine", "db", "--for", "1s"}).code, 2);
}

TEST_F(QuarantineCommand, AHostThatHasNotDoneSoIsAFailureThatSaysWhen)
{
    admin.quarantined.set_quarantined(false);
    admin.quarantined.set_connected(false);
    const auto outcome = run({"workload", "quarantine", "db"});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr("it will when it connects"));
    EXPECT_THAT(outcome.out, HasSubstr("not yet in force on the host"));
}

TEST_F(QuarantineCommand, Release)
{
    admin.quarantined.clear_quarantine();
    admin.quarantined.set_quarantined(false);
    EXPECT_EQ(run({"workload", "release", "db"}).code, 0);
    EXPECT_FALSE(admin.quarantine_asked.on());
    admin.quarantined.set_quarantined(true);
    admin.quarantined.mutable_local_quarantine()->set_by("root on db");
    const auto held = run({"workload", "release", "db"});
    EXPECT_EQ(held.code, 1);
    EXPECT_THAT(held.err, HasSubstr("bulkheadctl --local workload release"));
}

TEST_F(QuarantineCommand, OfThisHost)
{
    agent.status.mutable_standing()->set_quarantined(true);
    const auto on = run({"--local", "workload", "quarantine", "--reason", "x", "--for", "10m"});
    EXPECT_EQ(on.code, 0) << on.err;
    EXPECT_TRUE(agent.quarantine_asked.on());
    EXPECT_EQ(agent.quarantine_asked.for_ms(), 600'000U);
    EXPECT_THAT(on.out, HasSubstr("only failsafes pass"));
    EXPECT_EQ(run({"--local", "workload", "quarantine", "db"}).code, 2);
    EXPECT_EQ(run({"--local", "workload", "release", "--force"}).code, 0);
    EXPECT_TRUE(agent.quarantine_asked.force());
    agent.refuse_quarantine = {grpc::StatusCode::ABORTED, "the controller holds this host in quarantine"};
    EXPECT_EQ(run({"--local", "workload", "release"}).code, 5);
    EXPECT_EQ(admin.calls, 0);
}

TEST_F(QuarantineCommand, ListsAndStatusesShowIt)
{
    *admin.workloads.add_workloads() = admin.quarantined;
    EXPECT_THAT(run({"workload", "list"}).out, ContainsRegex("db +connected +yes"));
    auto& standing = *agent.status.mutable_standing();
    standing.set_quarantined(true);
    standing.mutable_controller_quarantine()->set_by("alice");
    EXPECT_THAT(run({"--local", "status"}).out, ContainsRegex("QUARANTINE +only failsafes pass"));
    EXPECT_EQ(run({"--local", "status", "-o", "json"}).json()["quarantine"]["controller"]["by"], "alice");
    admin.status.set_quarantined(1);
    EXPECT_THAT(run({"status"}).out, ContainsRegex("quarantine +1 workload"));
    auto& info = *admin.agents.add_agents();
    info.set_name("db");
    info.mutable_standing()->set_quarantined(true);
    EXPECT_THAT(run({"agent", "status"}).out, HasSubstr("in quarantine"));
}

} // namespace
} // namespace bulkhead::cli
