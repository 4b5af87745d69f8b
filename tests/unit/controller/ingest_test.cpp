// SPDX-License-Identifier: Apache-2.0
#include "controller/ingest/ingest_writer.h"
#include "controller/store/sqlite.h"
#include "tests/unit/controller/running_controller.h"

#include <future>

namespace bulkhead::controller {
namespace {

v1::RecordBatch batch_of(std::uint64_t first, std::uint64_t last)
{
    v1::RecordBatch batch;
    for (auto seq = first; seq <= last; ++seq) {
        auto& record = *batch.add_records();
        record.set_seq(seq);
        record.set_time_us(static_cast<std::int64_t>(1'000'000 + seq));
        record.set_kind(v1::Record::FLOW);
        record.set_verdict(v1::Record::ALLOWED);
        record.set_host("forged");
        record.set_agent_id("forged");
    }
    return batch;
}

class IngestTest : public testing::Test {
protected:
    struct Stream {
        Stream(const RunningController& controller, const EnrolledAgent& agent) : stub(controller.agents(agent))
        {
            set_deadline(context);
            stream = stub->Ingest(&context);
        }
        // 0: not acknowledged
        std::uint64_t send(const v1::RecordBatch& batch)
        {
            v1::IngestAck ack;
            return stream->Write(batch) && stream->Read(&ack) ? ack.seq() : 0;
        }
        grpc::Status finish()
        {
            stream->WritesDone();
            return stream->Finish();
        }
        std::unique_ptr<v1::Agents::Stub> stub;
        grpc::ClientContext context;
        std::unique_ptr<grpc::ClientReaderWriter<v1::RecordBatch, v1::IngestAck>> stream;
    };
    std::vector<v1::Record> stored()
    {
        v1::RecordQuery query;
        query.mutable_filter()->add_kinds(v1::Record::FLOW);
        query.mutable_filter()->add_kinds(v1::Record::GAP);
        grpc::ClientContext context;
        set_deadline(context);
        const auto reader = controller.admin()->QueryRecords(&context, query);
        std::vector<v1::Record> records;
        for (v1::RecordBatch batch; reader->Read(&batch);)
            records.insert(records.end(), batch.records().begin(), batch.records().end());
        EXPECT_TRUE(reader->Finish().ok());
        return records;
    }

    RunningController controller;
    EnrolledAgent web = controller.enrol("web");
};

TEST_F(IngestTest, BatchesAreAcknowledgedInOrderAndAreTheAgentsOwn)
{
    Stream stream(controller, web);
    EXPECT_EQ(stream.send(batch_of(1, 10)), 10U);
    EXPECT_EQ(stream.send(batch_of(11, 11)), 11U);
    EXPECT_TRUE(stream.finish().ok());
    const auto records = stored();
    ASSERT_EQ(records.size(), 11U);
    for (const auto& record : records) {
        EXPECT_EQ(record.host(), "web");
        EXPECT_EQ(record.agent_id(), web.id);
    }
}

TEST_F(IngestTest, WhatIsSentAgainAfterARestartIsStoredOnce)
{
    {
        Stream stream(controller, web);
        EXPECT_EQ(stream.send(batch_of(1, 5)), 5U);
        stream.finish();
    }
    controller.restart();
    Stream stream(controller, web);
    EXPECT_EQ(stream.send(batch_of(3, 8)), 8U);
    EXPECT_EQ(stream.send(batch_of(1, 2)), 8U);
    EXPECT_TRUE(stream.finish().ok());
    const auto records = stored();
    ASSERT_EQ(records.size(), 8U);
    for (std::size_t i = 0; i < records.size(); ++i)
        EXPECT_EQ(records[i].seq(), i + 1);
}

TEST_F(IngestTest, NumbersThatTheAgentLostDoNotStopTheRest)
{
    Stream stream(controller, web);
    EXPECT_EQ(stream.send(batch_of(1, 2)), 2U);
    EXPECT_EQ(stream.send(batch_of(100, 101)), 101U);
    EXPECT_TRUE(stream.finish().ok());
    EXPECT_EQ(stored().size(), 4U);
}

TEST_F(IngestTest, ABatchWithoutRisingNumbersIsRefusedWhole)
{
    for (const auto& numbers : {std::vector<std::uint64_t>{0}, {1, 1}, {2, 1}, {1ULL << 63}}) {
        v1::RecordBatch batch;
        for (const auto seq : numbers)
            batch.add_records()->set_seq(seq);
        Stream stream(controller, web);
        EXPECT_EQ(stream.send(batch), 0U);
        EXPECT_EQ(stream.finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    }
    EXPECT_TRUE(stored().empty());
}

TEST_F(IngestTest, ARecordTooLargeToKeepBecomesAGap)
{
    auto batch = batch_of(1, 3);
    batch.mutable_records(1)->mutable_process()->set_cmdline(std::string(100'000, 'x'));
    Stream stream(controller, web);
    EXPECT_EQ(stream.send(batch), 3U);
    stream.finish();
    const auto records = stored();
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(records[1].kind(), v1::Record::GAP);
    EXPECT_EQ(records[1].lost().from_seq(), 2U);
    EXPECT_EQ(records[1].lost().where(), "controller");
}

TEST_F(IngestTest, AnAgentCannotWriteAuditRecordsInAnothersName)
{
    v1::RecordBatch batch;
    auto& record = *batch.add_records();
    record.set_seq(1);
    record.set_kind(v1::Record::AUDIT);
    record.mutable_audit()->set_actor("admin");
    AgentBatch mine{"agent-1", {record}};
    ASSERT_TRUE(claim_batch(mine, "web"));
    EXPECT_EQ(mine.records.front().audit().actor(), "web");
}

TEST(IngestWriterTest, ABatchThatTheDiskDoesNotTakeIsNotAcknowledged)
{
    TemporaryDir dir;
    auto stores = open_sqlite({dir.file("test.db"), 200 * 1024});
    ASSERT_TRUE(stores) << stores.error().message;
    RecordFeed feed;
    IngestWriter writer(*stores->records, feed);
    writer.start();
    const auto submit = [&writer](std::uint64_t first, std::uint64_t last, std::size_t padding) {
        AgentBatch batch{"agent-1", {}};
        const auto message = batch_of(first, last);
        for (const auto& record : message.records())
            batch.records.emplace_back(record).set_rule(std::string(padding, 'r'));
        std::promise<Result<std::uint64_t>> promise;
        auto future = promise.get_future();
        writer.submit(std::move(batch), [&promise](Result<std::uint64_t> done) { promise.set_value(std::move(done)); });
        return future.get();
    };
    EXPECT_EQ(*submit(1, 2, 10), 2U);
    const auto full = submit(3, 4000, 200);
    ASSERT_FALSE(full);
    EXPECT_FALSE(full.error().mend.empty());
    EXPECT_EQ(*stores->records->last_seq("agent-1"), 2U);
    EXPECT_EQ(*submit(3, 4, 10), 4U) << "a smaller one still fits";
}

TEST(IngestWriterTest, WhatIsSubmittedBeforeTheStopIsStored)
{
    TemporaryDir dir;
    auto stores = open_sqlite({dir.file("test.db"), 0});
    ASSERT_TRUE(stores);
    RecordFeed feed;
    std::atomic<int> stored{0}, refused{0};
    {
        IngestWriter writer(*stores->records, feed);
        writer.start();
        for (std::uint64_t seq = 1; seq <= 200; ++seq)
            writer.submit({fmt::format("agent-{}", seq), {batch_of(1, 1).records(0)}},
                          [&](Result<std::uint64_t> done) { ++(done ? stored : refused); });
        writer.stop();
        writer.submit({"late", {batch_of(1, 1).records(0)}},
                      [&](Result<std::uint64_t> done) { ++(done ? stored : refused); });
    }
    EXPECT_EQ(stored, 200);
    EXPECT_EQ(refused, 1);
    EXPECT_EQ(*stores->records->newest_arrival(), 200U);
}

} // namespace
} // namespace bulkhead::controller
