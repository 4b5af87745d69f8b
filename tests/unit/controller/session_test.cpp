// SPDX-License-Identifier: Apache-2.0
#include "common/wire/wire.h"
#include "tests/unit/controller/running_controller.h"

#include <future>
#include <thread>

namespace bulkhead::controller {
namespace {

class SessionTest : public testing::Test {
protected:
    v1::AgentInfo agent_info(const std::string& name)
    {
        grpc::ClientContext context;
        set_deadline(context);
        v1::AgentList list;
        EXPECT_TRUE(controller.admin()->ListAgents(&context, {}, &list).ok());
        for (const auto& agent : list.agents())
            if (agent.name() == name)
                return agent;
        return {};
    }
    // Reads until the update carries the version, applying and answering each.
    bool follow_to(AgentSession& session, wire::HostState& state, std::uint64_t version)
    {
        while (state.policy_version < version) {
            v1::PolicyUpdate update;
            if (!session.read(update))
                return false;
            const auto next = wire::apply_update(state, update);
            if (!next) {
                ADD_FAILURE() << next.error().message;
                return false;
            }
            state = *next;
            session.answer(update);
        }
        return true;
    }

    RunningController controller;
};

TEST_F(SessionTest, ASnapshotFirstThenDeltas)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    const auto api = controller.enrol("api", {{"app", "shop"}, {"role", "api"}});
    ASSERT_EQ(controller.apply(shop_policy).version(), 1U);

    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    ASSERT_TRUE(session.read(update));
    EXPECT_TRUE(update.snapshot());
    EXPECT_EQ(update.policy_version(), 1U);
    EXPECT_EQ(update.own_labels().at("role"), "db");
    auto state = wire::apply_update({}, update);
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_EQ(state->policy.segments, std::vector<std::string>{"shop-db"});
    EXPECT_FALSE(state->addresses.contains(*IpAddress::parse("10.0.0.2")));
    ASSERT_TRUE(session.answer(update));

    AgentSession other(controller, api);
    ASSERT_TRUE(other.hello({"10.0.0.2"}));
    ASSERT_TRUE(session.read(update));
    EXPECT_FALSE(update.snapshot());
    EXPECT_FALSE(update.has_host_policy()) << "only an address came";
    state = wire::apply_update(*state, update);
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_EQ(state->addresses.at(*IpAddress::parse("10.0.0.2")).workload, "api");
    ASSERT_TRUE(session.answer(update));

    auto second =
        std::async(std::launch::async, [&] { return controller.apply(std::string(shop_policy) + "#\n", 8000); });
    ASSERT_TRUE(session.read(update));
    EXPECT_FALSE(update.snapshot());
    EXPECT_EQ(update.policy_version(), 2U);
    ASSERT_TRUE(session.answer(update));
    v1::PolicyUpdate others;
    wire::HostState api_state;
    EXPECT_TRUE(follow_to(other, api_state, 2));
    const auto reply = second.get();
    ASSERT_EQ(reply.agents_size(), 2);
    for (const auto& agent : reply.agents()) {
        EXPECT_TRUE(agent.connected());
        EXPECT_TRUE(agent.answered());
        EXPECT_TRUE(agent.result().enforced());
    }
}

TEST_F(SessionTest, ARefusalIsReportedWithItsReasonAndTheNextUpdateIsWhole)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    ASSERT_TRUE(session.read(update));
    ASSERT_TRUE(session.answer(update));

    auto applying = std::async(std::launch::async, [&] { return controller.apply(shop_policy, 8000); });
    ASSERT_TRUE(session.read(update));
    EXPECT_EQ(update.policy_version(), 1U);
    ASSERT_TRUE(session.answer(update, false, "map is full"));
    const auto reply = applying.get();
    ASSERT_EQ(reply.agents_size(), 1);
    EXPECT_TRUE(reply.agents(0).answered());
    EXPECT_FALSE(reply.agents(0).result().enforced());
    EXPECT_EQ(reply.agents(0).result().refusal(), "map is full");
    const auto info = agent_info("db");
    EXPECT_EQ(info.refusal(), "map is full");
    EXPECT_FALSE(info.enforced());
    EXPECT_EQ(info.policy_version(), 0U) << "what it still has";

    applying = std::async(std::launch::async, [&] { return controller.apply(std::string(shop_policy) + "#\n", 8000); });
    ASSERT_TRUE(session.read(update));
    EXPECT_EQ(update.policy_version(), 2U) << "the refused one was not sent again";
    EXPECT_TRUE(update.snapshot());
    ASSERT_TRUE(session.answer(update));
    EXPECT_TRUE(applying.get().agents(0).result().enforced());
    EXPECT_EQ(agent_info("db").refusal(), "");
}

TEST_F(SessionTest, AnAgentThatRefusesAVersionIsNotAskedAgainAtEveryChangeOfTheInventory)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(shop_policy);
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    ASSERT_TRUE(session.read(update));
    ASSERT_EQ(update.policy_version(), 1U);
    ASSERT_TRUE(session.answer(update, false, "not signed by my authority"));
    const auto api = controller.enrol("api", {{"app", "shop"}, {"role", "api"}});
    AgentSession other(controller, api);
    ASSERT_TRUE(other.hello({"10.0.0.2"}));
    v1::PolicyUpdate told;
    ASSERT_TRUE(other.read(told)); // so the world has changed
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    controller.apply(std::string(shop_policy) + "#\n");
    ASSERT_TRUE(session.read(update));
    EXPECT_EQ(update.policy_version(), 2U);
}

// That each is right is looked at by AgentSession. ECDSA never makes the same signature twice.
TEST_F(SessionTest, AgentsOfOneStateShareItsSignatureWhateverTheyHave)
{
    const std::map<std::string, std::string> labels{{"app", "shop"}, {"role", "db"}};
    const auto early = controller.enrol("early", labels);
    const auto late = controller.enrol("late", labels);
    const auto api = controller.enrol("api", {{"app", "shop"}, {"role", "api"}});
    ASSERT_EQ(controller.apply(shop_policy).version(), 1U);
    const auto read_and_answer = [](AgentSession& session) {
        v1::PolicyUpdate update;
        EXPECT_TRUE(session.read(update));
        EXPECT_TRUE(session.answer(update));
        return update;
    };
    AgentSession early_session(controller, early), late_session(controller, late), api_session(controller, api);
    ASSERT_TRUE(early_session.hello({}));
    EXPECT_TRUE(read_and_answer(early_session).snapshot());
    ASSERT_EQ(controller.apply(std::string(shop_policy) + "#\n").version(), 2U);
    const auto change = read_and_answer(early_session);
    ASSERT_TRUE(late_session.hello({}));
    const auto whole = read_and_answer(late_session);
    ASSERT_TRUE(api_session.hello({}));
    EXPECT_FALSE(change.snapshot());
    EXPECT_TRUE(whole.snapshot());
    EXPECT_EQ(change.generation(), whole.generation());
    EXPECT_EQ(change.signature(), whole.signature());
    EXPECT_NE(change.signature(), read_and_answer(api_session).signature());
}

TEST_F(SessionTest, AnAgentThatAsksForASnapshotGetsOne)
{
    const auto db = controller.enrol("db");
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    ASSERT_TRUE(session.read(update));
    ASSERT_TRUE(session.answer(update));
    controller.apply(shop_policy);
    ASSERT_TRUE(session.read(update));
    EXPECT_FALSE(update.snapshot());
    const auto generation = update.generation();
    ASSERT_TRUE(session.answer(update, false, "need snapshot", true));
    ASSERT_TRUE(session.read(update));
    EXPECT_TRUE(update.snapshot());
    EXPECT_EQ(update.generation(), generation);
}

TEST_F(SessionTest, AnAgentThatComesBackWithWhatItHasIsSentNothing)
{
    const auto db = controller.enrol("db");
    v1::PolicyUpdate update;
    {
        AgentSession session(controller, db);
        ASSERT_TRUE(session.hello({"10.0.0.1"}));
        ASSERT_TRUE(session.read(update));
        ASSERT_TRUE(session.answer(update));
        while (agent_info("db").enforced() == false) {
        }
    }
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, update.generation()));
    controller.apply(shop_policy);
    v1::PolicyUpdate next;
    ASSERT_TRUE(session.read(next));
    EXPECT_FALSE(next.snapshot());
    EXPECT_EQ(next.base_generation(), update.generation());
    EXPECT_EQ(next.policy_version(), 1U);
}

TEST_F(SessionTest, AfterARestartOfTheControllerASnapshotIsSent)
{
    const auto db = controller.enrol("db", {{"app", "shop"}, {"role", "db"}});
    controller.apply(shop_policy);
    v1::PolicyUpdate update;
    {
        AgentSession session(controller, db);
        ASSERT_TRUE(session.hello({"10.0.0.1"}));
        ASSERT_TRUE(session.read(update));
        ASSERT_TRUE(session.answer(update));
    }
    controller.restart();
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, update.generation()));
    v1::PolicyUpdate next;
    ASSERT_TRUE(session.read(next));
    EXPECT_TRUE(next.snapshot());
    EXPECT_GT(next.generation(), update.generation());
    EXPECT_EQ(next.policy_version(), 1U);
    EXPECT_EQ(next.host_policy().segments(0), "shop-db");
}

TEST_F(SessionTest, ASlowAgentHoldsNobodyBackAndGetsTheNewestInTheEnd)
{
    const auto slow = controller.enrol("slow");
    const auto quick = controller.enrol("quick");
    AgentSession slow_session(controller, slow);
    ASSERT_TRUE(slow_session.hello({"10.0.0.1"}));
    v1::PolicyUpdate first;
    ASSERT_TRUE(slow_session.read(first)); // and says nothing for a while
    AgentSession quick_session(controller, quick);
    ASSERT_TRUE(quick_session.hello({"10.0.0.2"}));
    wire::HostState state;
    for (std::uint64_t version = 1; version <= 5; ++version) {
        controller.apply(shop_policy + std::string(version, '#') + "\n");
        ASSERT_TRUE(follow_to(quick_session, state, version));
    }
    ASSERT_TRUE(slow_session.answer(first));
    v1::PolicyUpdate next;
    ASSERT_TRUE(slow_session.read(next));
    EXPECT_EQ(next.policy_version(), 5U) << "those between are left out";
    EXPECT_EQ(next.base_generation(), first.generation());
}

TEST_F(SessionTest, ANewStreamOfTheSameAgentReplacesTheOldOne)
{
    const auto db = controller.enrol("db");
    AgentSession old(controller, db);
    ASSERT_TRUE(old.hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    ASSERT_TRUE(old.read(update));
    AgentSession fresh(controller, db);
    ASSERT_TRUE(fresh.hello({"10.0.0.1"}));
    EXPECT_FALSE(old.read(update));
    EXPECT_EQ(old.finish().error_code(), grpc::StatusCode::ABORTED);
    ASSERT_TRUE(fresh.read(update));
    EXPECT_TRUE(agent_info("db").connected()) << "the old stream's end is not the agent's";
}

TEST_F(SessionTest, TwoAgentsWithOneAddress)
{
    const auto first = controller.enrol("zeta");
    const auto second = controller.enrol("alpha");
    AgentSession one(controller, first);
    ASSERT_TRUE(one.hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    ASSERT_TRUE(one.read(update));
    ASSERT_TRUE(one.answer(update));
    AgentSession two(controller, second);
    ASSERT_TRUE(two.hello({"10.0.0.1", "10.0.0.2"}));
    ASSERT_TRUE(two.read(update));
    const auto state = wire::apply_update({}, update);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->addresses.at(*IpAddress::parse("10.0.0.1")).workload, "zeta");
    EXPECT_EQ(state->addresses.at(*IpAddress::parse("10.0.0.2")).workload, "alpha");

    v1::RecordQuery query;
    query.mutable_filter()->add_kinds(v1::Record::AUDIT);
    grpc::ClientContext context;
    set_deadline(context);
    const auto reader = controller.admin()->QueryRecords(&context, query);
    int contested = 0;
    for (v1::RecordBatch batch; reader->Read(&batch);)
        for (const auto& record : batch.records())
            contested += record.audit().action() == "address.contested" && record.audit().object() == "alpha" ? 1 : 0;
    EXPECT_EQ(contested, 1);
}

TEST_F(SessionTest, AnAnswerThatNamesOnlyTheGenerationIsAnAnswerForItsVersion)
{
    const auto db = controller.enrol("db");
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    ASSERT_TRUE(session.read(update));
    ASSERT_TRUE(session.answer(update));
    auto applying = std::async(std::launch::async, [&] { return controller.apply(shop_policy, 9000); });
    ASSERT_TRUE(session.read(update));
    v1::PolicyUpdate only_generation;
    only_generation.set_generation(update.generation());
    ASSERT_TRUE(session.answer(only_generation, false, "no"));
    const auto reply = applying.get();
    ASSERT_EQ(reply.agents_size(), 1);
    EXPECT_TRUE(reply.agents(0).answered());
    EXPECT_EQ(reply.agents(0).result().policy_version(), 1U);
}

TEST_F(SessionTest, AReportBeforeHelloEndsTheStream)
{
    const auto db = controller.enrol("db");
    AgentSession session(controller, db);
    session.answer(v1::PolicyUpdate());
    v1::PolicyUpdate update;
    EXPECT_FALSE(session.read(update));
    EXPECT_FALSE(session.finish().ok());
}

TEST_F(SessionTest, ApplyDoesNotWaitForAnAgentThatIsAwayOrGoes)
{
    const auto away = controller.enrol("away");
    const auto goes = controller.enrol("goes");
    auto session = std::make_unique<AgentSession>(controller, goes);
    ASSERT_TRUE(session->hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    ASSERT_TRUE(session->read(update));
    ASSERT_TRUE(session->answer(update));
    auto applying = std::async(std::launch::async, [&] { return controller.apply(shop_policy, 9000); });
    ASSERT_TRUE(session->read(update));
    session.reset();
    const auto reply = applying.get();
    EXPECT_LT(reply.elapsed_us(), 8'000'000U);
    ASSERT_EQ(reply.agents_size(), 2);
    for (const auto& agent : reply.agents())
        EXPECT_FALSE(agent.answered());
}

} // namespace
} // namespace bulkhead::controller
