// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/controller/running_controller.h"

#include <chrono>
#include <future>
#include <thread>

namespace bulkhead::controller {
namespace {

using namespace std::chrono_literals;

class QuarantineTest : public testing::Test {
protected:
    grpc::Status set(const std::string& name, bool on, std::uint64_t for_ms = 0, std::uint32_t wait_ms = 0)
    {
        v1::SetQuarantineRequest request;
        request.set_name(name);
        request.set_on(on);
        request.set_reason("incident 7");
        request.set_for_ms(for_ms);
        request.set_wait_ms(wait_ms);
        grpc::ClientContext context;
        set_deadline(context);
        return controller.admin()->SetQuarantine(&context, request, &workload);
    }
    // Whether the host is known to be there: who orders before is not waited for, and the host is told as it comes.
    bool comes(const std::string& name)
    {
        const auto deadline = std::chrono::steady_clock::now() + 5s;
        do {
            v1::AgentList list;
            grpc::ClientContext context;
            set_deadline(context);
            if (!controller.admin()->ListAgents(&context, {}, &list).ok())
                return false;
            for (const auto& agent : list.agents())
                if (agent.name() == name && agent.connected())
                    return true;
            std::this_thread::sleep_for(5ms);
        } while (std::chrono::steady_clock::now() < deadline);
        return false;
    }
    // The next order; updates on the way are answered.
    static bool read_order(AgentSession& session, v1::QuarantineOrder& order)
    {
        for (v1::ControllerMessage message; session.read(message);) {
            if (message.has_quarantine()) {
                order = message.quarantine();
                return true;
            }
            session.answer(message);
        }
        return false;
    }
    static v1::Standing cut_off()
    {
        v1::Standing standing;
        standing.set_quarantined(true);
        standing.mutable_controller_quarantine()->set_by("admin");
        return standing;
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

    RunningController controller;
    v1::WorkloadInfo workload;
};

TEST_F(QuarantineTest, IsOrderedAndWaitsForTheHost)
{
    const auto db = controller.enrol("db");
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    ASSERT_TRUE(comes("db"));
    auto ordering = std::async(std::launch::async, [&] { return set("db", true, 3'600'000, 8000); });
    v1::QuarantineOrder order;
    ASSERT_TRUE(read_order(session, order));
    EXPECT_TRUE(order.on());
    EXPECT_EQ(order.by(), "admin");
    EXPECT_EQ(order.reason(), "incident 7");
    EXPECT_GT(order.left_ms(), 3'500'000U);
    ASSERT_TRUE(session.tell(cut_off()));
    ASSERT_TRUE(ordering.get().ok());
    EXPECT_TRUE(workload.quarantined());
    EXPECT_EQ(workload.quarantine().by(), "admin");
    EXPECT_EQ(audits("workload.quarantine"), 1);

    auto releasing = std::async(std::launch::async, [&] { return set("db", false, 0, 8000); });
    ASSERT_TRUE(read_order(session, order));
    EXPECT_FALSE(order.on());
    ASSERT_TRUE(session.tell(v1::Standing()));
    ASSERT_TRUE(releasing.get().ok());
    EXPECT_FALSE(workload.quarantined());
    EXPECT_FALSE(workload.has_quarantine());
    EXPECT_EQ(audits("workload.release"), 1);
}

TEST_F(QuarantineTest, GoesBeforeAPolicyThatIsNotAnsweredYet)
{
    const auto db = controller.enrol("db");
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    ASSERT_TRUE(comes("db"));
    v1::ControllerMessage message;
    ASSERT_TRUE(session.read(message)); // and is busy with it
    ASSERT_TRUE(message.has_update());
    ASSERT_TRUE(set("db", true).ok());
    ASSERT_TRUE(session.read(message));
    EXPECT_TRUE(message.quarantine().on());
}

TEST_F(QuarantineTest, OutlivesRestartsAndReachesAgentsThatComeLater)
{
    const auto db = controller.enrol("db");
    ASSERT_TRUE(set("db", true).ok());
    EXPECT_FALSE(workload.quarantined()) << "the host has not heard of it";
    EXPECT_TRUE(workload.has_quarantine());
    controller.restart();
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, v1::Standing()));
    ASSERT_TRUE(comes("db"));
    v1::QuarantineOrder order;
    ASSERT_TRUE(read_order(session, order));
    EXPECT_TRUE(order.on());
    EXPECT_EQ(order.left_ms(), 0U);
}

TEST_F(QuarantineTest, AReleaseReachesAHostThatWasAway)
{
    const auto db = controller.enrol("db");
    ASSERT_TRUE(set("db", true).ok());
    ASSERT_TRUE(set("db", false).ok());
    EXPECT_TRUE(set("db", false).ok()) << "twice is no error";
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, cut_off()));
    v1::QuarantineOrder order;
    ASSERT_TRUE(read_order(session, order));
    EXPECT_FALSE(order.on());
}

TEST_F(QuarantineTest, EndsWhenItsTimeIsOver)
{
    const auto db = controller.enrol("db");
    ASSERT_TRUE(set("db", true, 60'000).ok());
    controller.clock.shift = 61;
    AgentSession session(controller, db);
    ASSERT_TRUE(session.hello({"10.0.0.1"}, cut_off()));
    v1::QuarantineOrder order;
    ASSERT_TRUE(read_order(session, order));
    while (order.on())
        ASSERT_TRUE(read_order(session, order));
    EXPECT_EQ(audits("workload.release"), 1);
}

TEST_F(QuarantineTest, IsRefusedWhereNobodyCanDoIt)
{
    EXPECT_EQ(set("nobody", true).error_code(), grpc::StatusCode::NOT_FOUND);
    controller.apply("version: 1\nworkloads: [{name: legacy, ip: [10.1.7.7], labels: {app: old}}]\n");
    EXPECT_EQ(set("legacy", true).error_code(), grpc::StatusCode::ABORTED);
}

} // namespace
} // namespace bulkhead::controller
