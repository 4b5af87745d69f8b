// SPDX-License-Identifier: Apache-2.0
#include "cli_session.h"

namespace bulkhead::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* good_policy = R"(version: 1
segment: shop-db
selector: {app: shop, role: db}
mode: enforce
allow:
  - id: api-to-db
    from: {labels: {role: api}}
    service: [tcp/5432]
)";

class Policy : public CliSession {
protected:
    v1::AgentResult& add_agent(const std::string& name, bool connected, bool answered, bool enforced)
    {
        auto& agent_result = *admin.apply_reply.add_agents();
        agent_result.set_name(name);
        agent_result.set_connected(connected);
        agent_result.set_answered(answered);
        agent_result.mutable_result()->set_enforced(enforced);
        agent_result.mutable_result()->set_realise_us(1500);
        return agent_result;
    }
};

TEST_F(Policy, ValidateIsOfflineAndSumsUp)
{
    unreachable = Error{ErrorKind::unreachable, "must not be asked", ""};
    const auto outcome = run({"policy", "validate", write("shop.yaml", good_policy)});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "valid: 1 file, 1 segment, 1 rule, 0 declared workloads\n");
    EXPECT_EQ(run({"policy", "validate", "-o", "json", write("shop.yaml", good_policy)}).json()["segments"], 1);
}

TEST_F(Policy, ValidateSaysEveryErrorOfEveryFileWithItsPlace)
{
    const auto one = write("one.yaml", "version: 1\nsegment: a\nselector: {app: a}\nnonsense: 1\nmode: sometimes\n");
    const auto two = write(
        "two.yaml", "version: 1\nsegment: b\nselector: {app: b}\nallow: [{id: x, from: any, service: tcp/70000}]\n");
    const auto outcome = run({"policy", "validate", one, two});
    EXPECT_EQ(outcome.code, 3);
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_THAT(outcome.err, HasSubstr("one.yaml:4:"));
    EXPECT_THAT(outcome.err, HasSubstr("one.yaml:5:"));
    EXPECT_THAT(outcome.err, HasSubstr("two.yaml:4:"));
    EXPECT_THAT(outcome.err, HasSubstr("mend"));
}

TEST_F(Policy, ValidateOfNothingIsInvalid)
{
    EXPECT_EQ(run({"policy", "validate", "/nonexistent"}).code, 3);
    EXPECT_EQ(run({"policy", "validate", write("empty.yaml", "")}).code, 3);
}

TEST_F(Policy, ApplySendsTheFilesAndReportsEachAgent)
{
    admin.apply_reply.set_version(4);
    admin.apply_reply.set_elapsed_us(210'000);
    add_agent("web", true, true, true);
    add_agent("db", true, true, true);
    add_agent("old", false, false, false);
    const auto outcome =
        run({"policy", "apply", write("shop.yaml", good_policy), "--message", "CHG-1", "--wait", "1500ms"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("version 4 enforced on 2/2 agents in 0.21 s; 1 not connected"));
    EXPECT_THAT(outcome.out, testing::ContainsRegex("web +enforced +1.5 ms"));
    EXPECT_THAT(outcome.out, testing::ContainsRegex("old +not connected"));
    ASSERT_EQ(admin.applied.files_size(), 1);
    EXPECT_THAT(admin.applied.files(0).name(), testing::EndsWith("shop.yaml"));
    EXPECT_EQ(admin.applied.files(0).text(), good_policy);
    EXPECT_EQ(admin.applied.message(), "CHG-1");
    EXPECT_EQ(admin.applied.wait_ms(), 1500U);
}

TEST_F(Policy, InvalidPolicyIsNeverSent)
{
    EXPECT_EQ(run({"policy", "apply", write("bad.yaml", "version: 1\nnonsense: 1\n")}).code, 3);
    EXPECT_EQ(admin.calls, 0);
}

TEST_F(Policy, RefusingAgentIsExitOneWithItsReason)
{
    admin.apply_reply.set_version(5);
    add_agent("web", true, true, true);
    add_agent("db", true, true, false).mutable_result()->set_refusal("too many process conditions");
    const auto outcome = run({"policy", "apply", write("shop.yaml", good_policy)});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.out, HasSubstr("too many process conditions"));
    EXPECT_THAT(outcome.err, HasSubstr("1 agent refused version 5"));
}

TEST_F(Policy, SilentAgentIsExitOne)
{
    admin.apply_reply.set_version(5);
    add_agent("web", true, false, false);
    const auto outcome = run({"policy", "apply", write("shop.yaml", good_policy)});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr("not answered"));
}

TEST_F(Policy, DiagnosticsOfTheControllerAreExitThree)
{
    admin.apply_reply.add_diagnostics("shop.yaml:3:1: error: no \x1b such workload");
    const auto outcome = run({"policy", "apply", write("shop.yaml", good_policy)});
    EXPECT_EQ(outcome.code, 3);
    EXPECT_THAT(outcome.err, HasSubstr("shop.yaml:3:1"));
    EXPECT_THAT(outcome.err, Not(HasSubstr("\x1b")));
    EXPECT_THAT(outcome.err, HasSubstr("nothing was changed"));
}

TEST_F(Policy, ApplyForPrograms)
{
    admin.apply_reply.set_version(4);
    add_agent("web", true, true, true);
    const auto json = run({"policy", "apply", "-o", "json", write("shop.yaml", good_policy)}).json();
    EXPECT_EQ(json["version"], 4);
    EXPECT_EQ(json["agents"][0]["result"], "enforced");
}

TEST_F(Policy, ShowPrintsWhatCouldBeAppliedAgain)
{
    admin.policy.set_version(2);
    admin.policy.set_author("alice");
    admin.policy.set_message("CHG-1");
    for (const char* name : {"a.yaml", "b.yaml"}) {
        admin.policy.add_files()->set_name(name);
        admin.policy.mutable_files()->rbegin()->set_text(std::string("version: 1\nsegment: ") + name[0] +
                                                         "\nselector: {app: x}\n");
    }
    const auto outcome = run({"policy", "show", "2"});
    EXPECT_EQ(admin.policy_asked.version(), 2U);
    EXPECT_THAT(outcome.out, HasSubstr("alice"));
    EXPECT_THAT(run({"policy", "validate", write("again.yaml", outcome.out)}).out, HasSubstr("2 segments"));
    EXPECT_EQ(run({"policy", "show", "-o", "json"}).json()["files"][1]["name"], "b.yaml");
}

TEST_F(Policy, ShowBeforeAnyPolicySaysSo)
{
    const auto outcome = run({"policy", "show"});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_THAT(outcome.err, HasSubstr("no policy"));
}

TEST_F(Policy, ShowLocalTellsThePlanesInWords)
{
    agent.policy.set_policy_version(3);
    agent.policy.add_lines("inbound allow shop-db/api-to-db");
    EXPECT_THAT(run({"--local", "policy", "show"}).out, HasSubstr("inbound allow shop-db/api-to-db"));
}

} // namespace
} // namespace bulkhead::cli
