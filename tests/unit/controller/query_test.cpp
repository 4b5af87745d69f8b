// SPDX-License-Identifier: Apache-2.0
#include "controller/api/record_query.h"

#include "controller/store/sqlite.h"
#include "tests/unit/controller/temporary_dir.h"

#include <atomic>
#include <thread>

namespace bulkhead::controller {
namespace {

class QueryTest : public testing::Test {
protected:
    void SetUp() override
    {
        auto opened = open_sqlite({dir.file("test.db"), 0});
        ASSERT_TRUE(opened) << opened.error().message;
        stores = std::move(*opened);
    }
    void add(std::uint64_t first, std::uint64_t last)
    {
        AgentBatch batch{"a", {}};
        for (auto seq = first; seq <= last; ++seq) {
            auto& record = batch.records.emplace_back();
            record.set_seq(seq);
            record.set_time_us(static_cast<std::int64_t>(seq));
            record.set_kind(v1::Record::FLOW);
            record.set_host("web");
            record.set_verdict(seq % 2 == 0 ? v1::Record::DENIED : v1::Record::ALLOWED);
        }
        ASSERT_TRUE(stores.records->append({&batch, 1}));
        feed.notify();
    }
    std::vector<std::uint64_t> ask(const v1::RecordQuery& query)
    {
        std::vector<std::uint64_t> seen;
        const RecordSink sink{[&](const v1::RecordBatch& batch) {
                                  for (const auto& record : batch.records())
                                      seen.push_back(record.seq());
                                  return true;
                              },
                              [] { return false; }};
        const auto done = query_records(*stores.records, feed, query, sink);
        EXPECT_TRUE(done) << done.error().message;
        return seen;
    }

    TemporaryDir dir;
    Stores stores;
    RecordFeed feed;
};

TEST_F(QueryTest, OldestFirstAndTheLastFewOldestFirstToo)
{
    add(1, 3000);
    v1::RecordQuery query;
    const auto all = ask(query);
    ASSERT_EQ(all.size(), 3000U);
    EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
    query.set_last(3);
    EXPECT_EQ(ask(query), (std::vector<std::uint64_t>{2998, 2999, 3000}));
    query.mutable_filter()->add_verdicts(v1::Record::DENIED);
    EXPECT_EQ(ask(query), (std::vector<std::uint64_t>{2996, 2998, 3000}));
    query.set_until_us(10);
    EXPECT_EQ(ask(query), (std::vector<std::uint64_t>{4, 6, 8}));
    query.set_last(max_last + 1);
    EXPECT_FALSE(query_records(*stores.records, feed, query, {}));
}

TEST_F(QueryTest, ABadFilterIsAUsageError)
{
    v1::RecordQuery query;
    query.mutable_filter()->add_from("a=b=c,,");
    const auto done = query_records(*stores.records, feed, query, {});
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().kind, ErrorKind::usage);
}

TEST_F(QueryTest, FollowingLosesNothingAndRepeatsNothingAtTheSeam)
{
    constexpr std::uint64_t total = 4000;
    add(1, 1000);
    std::atomic<bool> enough{false};
    std::vector<std::uint64_t> seen;
    std::thread writer([&] {
        for (std::uint64_t seq = 1001; seq <= total; seq += 10)
            add(seq, seq + 9);
    });
    v1::RecordQuery query;
    query.set_follow(true);
    const RecordSink sink{[&](const v1::RecordBatch& batch) {
                              for (const auto& record : batch.records())
                                  seen.push_back(record.seq());
                              enough = seen.size() >= total;
                              return true;
                          },
                          [&] { return enough.load(); }};
    EXPECT_TRUE(query_records(*stores.records, feed, query, sink));
    writer.join();
    ASSERT_EQ(seen.size(), total);
    for (std::uint64_t i = 0; i < total; ++i)
        ASSERT_EQ(seen[i], i + 1);
}

TEST_F(QueryTest, WhatIsStoredWhileTheOldRecordsAreReadComesOnce)
{
    add(1, 1500); // more than a page
    std::vector<std::uint64_t> seen;
    int asked = 0;
    v1::RecordQuery query;
    query.set_follow(true);
    const RecordSink sink{[&](const v1::RecordBatch& batch) {
                              for (const auto& record : batch.records())
                                  seen.push_back(record.seq());
                              return true;
                          },
                          [&] {
                              if (++asked == 2) // between the first page and the second
                                  add(1501, 1510);
                              return asked > 6;
                          }};
    EXPECT_TRUE(query_records(*stores.records, feed, query, sink));
    ASSERT_EQ(seen.size(), 1510U);
    for (std::size_t i = 0; i < seen.size(); ++i)
        ASSERT_EQ(seen[i], i + 1);
}

TEST_F(QueryTest, FollowingEndsWhenTheReaderIsGone)
{
    add(1, 5);
    v1::RecordQuery query;
    query.set_follow(true);
    int batches = 0;
    EXPECT_TRUE(query_records(*stores.records, feed, query,
                              {[&](const v1::RecordBatch&) { return ++batches < 1; }, [] { return false; }}));
    EXPECT_EQ(batches, 1);
}

TEST_F(QueryTest, ANewRecordReachesAFollowerThatWaits)
{
    std::atomic<int> seen{0};
    std::atomic<bool> stop{false};
    v1::RecordQuery query;
    query.set_follow(true);
    query.set_last(1);
    query.mutable_filter()->add_verdicts(v1::Record::DENIED);
    std::thread follower([&] {
        EXPECT_TRUE(query_records(*stores.records, feed, query,
                                  {[&](const v1::RecordBatch& batch) {
                                       seen += batch.records_size();
                                       return true;
                                   },
                                   [&] { return stop.load(); }}));
    });
    add(1, 4); // two of them are denied; before or after the seam, each comes once, and of the old ones only the last
    for (int i = 0; i < 1000 && seen < 1; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const int before = seen;
    add(5, 6);
    for (int i = 0; i < 1000 && seen < before + 1; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    stop = true;
    follower.join();
    EXPECT_EQ(seen, before + 1);
}

} // namespace
} // namespace bulkhead::controller
