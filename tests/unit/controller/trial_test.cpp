// SPDX-License-Identifier: Apache-2.0
// Policies that are applied with a confirm window, as the controller sees them.
#include "tests/unit/controller/running_controller.h"

#include <future>
#include <thread>

namespace bulkhead::controller {
namespace {

using namespace std::chrono_literals;

class TrialTest : public testing::Test {
protected:
    static std::string edition(int number)
    {
        return shop_policy + std::string(static_cast<std::size_t>(number), '#') + "\n";
    }

    grpc::Status try_apply(const std::string& text, std::chrono::milliseconds window, bool force,
                           v1::ApplyPolicyReply& reply, std::uint32_t wait_ms = 0)
    {
        v1::ApplyPolicyRequest request;
        request.set_confirm_ms(static_cast<std::uint64_t>(window.count()));
        request.set_force(force);
        request.set_wait_ms(wait_ms);
        auto& file = *request.add_files();
        file.set_name("shop.yaml");
        file.set_text(text);
        grpc::ClientContext context;
        set_deadline(context);
        return controller.admin()->ApplyPolicy(&context, request, &reply);
    }
    v1::ApplyPolicyReply apply_trial(const std::string& text, std::chrono::milliseconds window = 60s,
                                     bool force = false, std::uint32_t wait_ms = 0)
    {
        v1::ApplyPolicyReply reply;
        const auto status = try_apply(text, window, force, reply, wait_ms);
        EXPECT_TRUE(status.ok()) << status.error_message();
        return reply;
    }
    grpc::Status confirm(std::uint64_t version = 0, std::uint32_t wait_ms = 0)
    {
        v1::ConfirmPolicyRequest request;
        request.set_version(version);
        request.set_wait_ms(wait_ms);
        grpc::ClientContext context;
        set_deadline(context);
        return controller.admin()->ConfirmPolicy(&context, request, &last);
    }
    grpc::Status roll_back(std::uint64_t version = 0, std::uint32_t wait_ms = 0)
    {
        v1::RollbackPolicyRequest request;
        request.set_version(version);
        request.set_wait_ms(wait_ms);
        grpc::ClientContext context;
        set_deadline(context);
        last.Clear();
        return controller.admin()->RollbackPolicy(&context, request, &last);
    }
    // "version:status", newest first.
    std::vector<std::string> history()
    {
        v1::PolicyList list;
        grpc::ClientContext context;
        set_deadline(context);
        EXPECT_TRUE(controller.admin()->ListPolicies(&context, {}, &list).ok());
        std::vector<std::string> lines;
        for (const auto& one : list.editions())
            lines.push_back(fmt::format("{}:{}{}", one.version(), one.status(), one.confirmed() ? ":confirmed" : ""));
        return lines;
    }
    v1::ControllerStatus status()
    {
        v1::ControllerStatus reply;
        grpc::ClientContext context;
        set_deadline(context);
        EXPECT_TRUE(controller.admin()->GetStatus(&context, {}, &reply).ok());
        return reply;
    }
    int audits(const std::string& action)
    {
        v1::RecordQuery query;
        query.mutable_filter()->add_kinds(v1::Record::AUDIT);
        grpc::ClientContext context;
        set_deadline(context);
        const auto reader = controller.admin()->QueryRecords(&context, query);
        int count = 0;
        for (v1::RecordBatch batch; reader->Read(&batch);)
            for (const auto& record : batch.records())
                count += record.audit().action() == action ? 1 : 0;
        return count;
    }
    std::uint64_t told_lapse(const std::string& name)
    {
        v1::AgentList list;
        grpc::ClientContext context;
        set_deadline(context);
        EXPECT_TRUE(controller.admin()->ListAgents(&context, {}, &list).ok());
        for (const auto& agent : list.agents())
            if (agent.name() == name)
                return agent.standing().lapsed_version();
        return 0;
    }
    template <typename Condition>
    bool eventually(const Condition& condition)
    {
        for (int i = 0; i < 500; ++i, std::this_thread::sleep_for(20ms))
            if (condition())
                return true;
        return false;
    }
    // What an agent with this version in force for good says of itself.
    static v1::Standing standing_at(std::uint64_t version, std::uint64_t generation)
    {
        v1::Standing standing;
        standing.set_generation(generation);
        standing.set_policy_version(version);
        standing.set_confirmed_version(version);
        return standing;
    }

    RunningController controller;
    v1::ApplyPolicyReply last;
};

TEST_F(TrialTest, IsSentWithItsWindowAndConfirmedByAMessage)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(edition(0));
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    v1::ControllerMessage message;
    ASSERT_TRUE(session.read(message));
    EXPECT_EQ(message.update().trial_ms(), 0U);
    ASSERT_TRUE(session.answer(message));

    auto applying = std::async(std::launch::async, [&] { return apply_trial(edition(1), 60s, false, 8000); });
    ASSERT_TRUE(session.read(message));
    EXPECT_EQ(message.update().policy_version(), 2U);
    EXPECT_GT(message.update().trial_ms(), 50'000U);
    EXPECT_LE(message.update().trial_ms(), 60'000U);
    ASSERT_TRUE(session.answer(message));
    const auto reply = applying.get();
    EXPECT_EQ(reply.version(), 2U);
    EXPECT_EQ(reply.back_to(), 1U);
    EXPECT_NE(reply.trial_until_us(), 0);
    ASSERT_EQ(reply.agents_size(), 1);
    EXPECT_TRUE(reply.agents(0).result().enforced());
    EXPECT_EQ(history(), (std::vector<std::string>{"2:on-trial", "1:superseded"}));
    EXPECT_EQ(status().trial_version(), 2U);
    EXPECT_EQ(status().policy_version(), 2U);

    auto confirming = std::async(std::launch::async, [&] { return confirm(0, 8000); });
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(message.has_confirm());
    EXPECT_EQ(message.confirm().policy_version(), 2U);
    ASSERT_TRUE(session.answer(message));
    EXPECT_TRUE(confirming.get().ok());
    ASSERT_EQ(last.agents_size(), 1);
    EXPECT_TRUE(last.agents(0).answered());
    EXPECT_EQ(history(), (std::vector<std::string>{"2:in-force:confirmed", "1:superseded"}));
    EXPECT_EQ(status().trial_version(), 0U);
    controller.clock.shift = 120;
    std::this_thread::sleep_for(1500ms);
    EXPECT_EQ(status().policy_version(), 2U) << "the deadline means nothing any more";
    EXPECT_EQ(audits("policy.confirm"), 1);
    EXPECT_TRUE(confirm(2).ok()) << "twice is no error";
    EXPECT_EQ(confirm().error_code(), grpc::StatusCode::ABORTED);
}

TEST_F(TrialTest, LapsesByItselfAndTheAgentThatHasGoneBackIsLeftAlone)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(edition(0));
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    v1::ControllerMessage first, message;
    ASSERT_TRUE(session.read(first));
    ASSERT_TRUE(session.answer(first));
    apply_trial(edition(1));
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(session.answer(message));
    // The agent's clock runs ahead: it goes back, and is not sent the same again.
    auto gone_back = standing_at(1, first.update().generation());
    gone_back.set_lapsed_version(2);
    ASSERT_TRUE(session.tell(gone_back));
    ASSERT_TRUE(eventually([&] { return told_lapse("db") == 2; }));
    controller.clock.shift = 63;
    EXPECT_TRUE(eventually([&] { return history().front() == "2:lapsed"; }));
    EXPECT_EQ(status().policy_version(), 1U);
    EXPECT_EQ(status().trial_version(), 0U);
    EXPECT_EQ(audits("policy.lapse"), 1);
    EXPECT_EQ(confirm(2).error_code(), grpc::StatusCode::ABORTED);
    ASSERT_EQ(controller.apply(edition(2)).version(), 3U);
    ASSERT_TRUE(session.read(message));
    EXPECT_EQ(message.update().policy_version(), 3U) << "nothing was sent in between, but: " << message.DebugString();
    EXPECT_EQ(message.update().base_generation(), first.update().generation());
}

TEST_F(TrialTest, AnAgentThatHasNotGoneBackIsBroughtBack)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(edition(0));
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    v1::ControllerMessage message;
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(session.answer(message));
    apply_trial(edition(1));
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(session.answer(message));
    controller.clock.shift = 63;
    ASSERT_TRUE(session.read(message));
    EXPECT_EQ(message.update().policy_version(), 1U);
    EXPECT_EQ(message.update().trial_ms(), 0U);
}

TEST_F(TrialTest, ConfirmingIsRefusedFromTheDeadlineOn)
{
    controller.apply(edition(0));
    apply_trial(edition(1));
    controller.clock.shift = 61; // over, and within the grace
    EXPECT_EQ(confirm().error_code(), grpc::StatusCode::ABORTED);
    EXPECT_EQ(audits("policy.confirm"), 0);
}

TEST_F(TrialTest, WithoutAnythingBeforeItGoesBackToNoPolicy)
{
    EXPECT_EQ(apply_trial(edition(0)).back_to(), 0U);
    controller.clock.shift = 63;
    EXPECT_TRUE(eventually([&] { return status().policy_version() == 0; }));
    EXPECT_EQ(controller.apply(edition(0)).version(), 2U);
}

TEST_F(TrialTest, AnotherPolicyIsRefusedMeanwhileUnlessItIsForced)
{
    controller.apply(edition(0));
    apply_trial(edition(1));
    v1::ApplyPolicyReply reply;
    const auto refused = try_apply(edition(2), 0s, false, reply);
    EXPECT_EQ(refused.error_code(), grpc::StatusCode::ABORTED);
    EXPECT_NE(refused.error_message().find("version 2 of admin is on trial until"), std::string::npos)
        << refused.error_message();
    EXPECT_EQ(try_apply(edition(2), 60s, false, reply).error_code(), grpc::StatusCode::ABORTED);

    EXPECT_EQ(apply_trial(edition(2), 60s, true).back_to(), 1U) << "not to the one that nobody confirmed";
    EXPECT_EQ(history(), (std::vector<std::string>{"3:on-trial", "2:replaced", "1:superseded"}));
    EXPECT_TRUE(confirm(2).error_code() == grpc::StatusCode::ABORTED) << "another one is on trial";
    ASSERT_TRUE(try_apply(edition(3), 0s, true, reply).ok());
    EXPECT_EQ(history(), (std::vector<std::string>{"4:in-force", "3:replaced", "2:replaced", "1:superseded"}));
}

TEST_F(TrialTest, SurvivesARestartOfTheController)
{
    controller.apply(edition(0));
    apply_trial(edition(1));
    controller.restart();
    EXPECT_EQ(status().trial_version(), 2U);
    controller.clock.shift = 59;
    EXPECT_EQ(status().trial_version(), 2U);
    controller.clock.shift = 63;
    EXPECT_TRUE(eventually([&] { return history().front() == "2:lapsed"; }));

    apply_trial(edition(2));
    controller.restart();
    EXPECT_TRUE(confirm(3).ok());
    controller.restart();
    EXPECT_EQ(history().front(), "3:in-force:confirmed");
    EXPECT_EQ(status().policy_version(), 3U);

    apply_trial(edition(3));
    controller.stop();
    controller.clock.shift = 600;
    controller.start();
    EXPECT_EQ(history().front(), "4:lapsed") << "its time was over while the controller was away";
    EXPECT_EQ(status().policy_version(), 3U);
}

TEST_F(TrialTest, AnAgentThatComesLateIsBroughtToWhatAllGoBackToFirst)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(edition(0));
    apply_trial(edition(1));
    controller.clock.shift = 40;
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    v1::ControllerMessage message;
    ASSERT_TRUE(session.read(message));
    EXPECT_EQ(message.update().policy_version(), 1U);
    EXPECT_EQ(message.update().trial_ms(), 0U);
    ASSERT_TRUE(session.answer(message));
    ASSERT_TRUE(session.read(message));
    EXPECT_EQ(message.update().policy_version(), 2U);
    EXPECT_GT(message.update().trial_ms(), 0U);
    EXPECT_LE(message.update().trial_ms(), 20'000U) << "what is left";
}

TEST_F(TrialTest, AnAgentThatRefusesAllIsAskedOnceForEach)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(edition(0));
    apply_trial(edition(1));
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    v1::ControllerMessage message;
    for (const std::uint64_t version : {1U, 2U}) {
        ASSERT_TRUE(session.read(message));
        EXPECT_EQ(message.update().policy_version(), version);
        ASSERT_TRUE(session.answer(message.update(), false, "not signed by my authority"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    v1::ApplyPolicyReply reply;
    ASSERT_TRUE(try_apply(edition(2), 0s, true, reply).ok());
    ASSERT_TRUE(session.read(message));
    EXPECT_EQ(message.update().policy_version(), 3U);
}

// Who is who depends on the policy, and so do the two signatures, which AgentSession looks at.
TEST_F(TrialTest, WhatAllGoBackToIsSignedWithItsOwnIdentities)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.enrol("api", {{"app", "shop"}, {"role", "api"}});
    controller.apply(edition(0));
    auto names_a_workload = edition(1);
    const std::string peer = "from: {segment: shop-api}";
    names_a_workload.replace(names_a_workload.find(peer), peer.size(), "from: {workload: api}");
    names_a_workload += "---\nversion: 1\nworkloads: [{name: api}]\n";
    ASSERT_EQ(apply_trial(names_a_workload).version(), 2U);
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    v1::ControllerMessage message;
    for (const std::uint64_t version : {1U, 2U}) {
        ASSERT_TRUE(session.read(message));
        EXPECT_EQ(message.update().policy_version(), version);
        ASSERT_TRUE(session.answer(message));
    }
    EXPECT_GT(message.update().upsert_identities_size(), 0) << "these two have not the same";
}

TEST_F(TrialTest, AnAgentThatWasAwayAtTheConfirmationGetsTheVersionForGood)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(edition(0));
    apply_trial(edition(1));
    ASSERT_TRUE(confirm().ok());
    v1::ControllerMessage message;
    {
        auto gone_back = standing_at(1, 7);
        gone_back.set_lapsed_version(2);
        AgentSession session(controller, db);
        ASSERT_TRUE(session.hello({"10.0.0.1"}, gone_back));
        ASSERT_TRUE(session.read(message));
        EXPECT_EQ(message.update().policy_version(), 2U);
        EXPECT_EQ(message.update().trial_ms(), 0U);
    }
    // One that comes back before its own deadline needs no more than the word.
    auto on_trial = standing_at(2, 9);
    on_trial.set_confirmed_version(1);
    on_trial.set_trial_left_ms(5000);
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, on_trial));
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(message.has_confirm());
    EXPECT_EQ(message.confirm().policy_version(), 2U);
}

TEST_F(TrialTest, AnAgentThatIsTooLateForTheConfirmationGetsTheVersionForGood)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(edition(0));
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    v1::ControllerMessage message;
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(session.answer(message));
    apply_trial(edition(1));
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(session.answer(message));
    ASSERT_TRUE(confirm().ok());
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(message.has_confirm());
    v1::PolicyUpdate refusal;
    refusal.set_generation(message.confirm().generation());
    ASSERT_TRUE(session.answer(refusal, false, "its time is over"));
    ASSERT_TRUE(session.read(message));
    EXPECT_EQ(message.update().policy_version(), 2U);
    EXPECT_EQ(message.update().trial_ms(), 0U);
    EXPECT_TRUE(message.update().snapshot());
}

TEST_F(TrialTest, RollingBackEndsItAtOnce)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(edition(0));
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    v1::ControllerMessage message;
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(session.answer(message));
    apply_trial(edition(1));
    ASSERT_TRUE(session.read(message));
    ASSERT_TRUE(session.answer(message));
    auto going_back = std::async(std::launch::async, [&] { return roll_back(0, 8000); });
    ASSERT_TRUE(session.read(message));
    EXPECT_EQ(message.update().policy_version(), 1U);
    EXPECT_EQ(message.update().trial_ms(), 0U);
    ASSERT_TRUE(session.answer(message));
    EXPECT_TRUE(going_back.get().ok());
    EXPECT_EQ(last.version(), 1U);
    ASSERT_EQ(last.agents_size(), 1);
    EXPECT_TRUE(last.agents(0).answered());
    EXPECT_EQ(history(), (std::vector<std::string>{"2:rolled-back", "1:in-force"}));
    EXPECT_EQ(audits("policy.rollback"), 1);
}

TEST_F(TrialTest, RollingBackWithoutATrialAppliesAnEarlierVersionAnew)
{
    EXPECT_EQ(roll_back().error_code(), grpc::StatusCode::ABORTED) << "there is nothing to go back to";
    controller.apply(edition(0));
    controller.apply(edition(1));
    apply_trial(edition(2));
    ASSERT_TRUE(roll_back().ok());
    EXPECT_EQ(last.version(), 2U);
    ASSERT_TRUE(roll_back().ok()) << "past the one that was not kept";
    EXPECT_EQ(last.version(), 4U);
    v1::GetPolicyRequest request;
    v1::GetPolicyReply policy;
    grpc::ClientContext context;
    set_deadline(context);
    ASSERT_TRUE(controller.admin()->GetPolicy(&context, request, &policy).ok());
    EXPECT_EQ(policy.version(), 4U);
    EXPECT_EQ(policy.files(0).text(), edition(0));
    EXPECT_EQ(policy.message(), "rollback to version 1");
    EXPECT_EQ(policy.edition().status(), "in-force");
    ASSERT_TRUE(roll_back(2).ok());
    EXPECT_EQ(last.version(), 5U);
    EXPECT_EQ(roll_back(99).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    ASSERT_TRUE(roll_back(5).ok());
    EXPECT_TRUE(last.unchanged());
    // In a trial, to another version than what it would go back to.
    apply_trial(edition(4));
    ASSERT_TRUE(roll_back(1).ok());
    EXPECT_EQ(last.version(), 7U);
    EXPECT_EQ(history().at(1), "6:rolled-back");
    EXPECT_EQ(status().policy_version(), 7U);
}

TEST_F(TrialTest, WindowsThatAreTooShortOrTooLongAreRefused)
{
    v1::ApplyPolicyReply reply;
    EXPECT_EQ(try_apply(edition(0), 9999ms, false, reply).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(try_apply(edition(0), 24h + 1ms, false, reply).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_TRUE(try_apply(edition(0), 10s, false, reply).ok());
}

} // namespace
} // namespace bulkhead::controller
