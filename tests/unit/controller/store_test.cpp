// SPDX-License-Identifier: Apache-2.0
#include "controller/store/audit.h"
#include "controller/store/sqlite.h"
#include "tests/unit/controller/temporary_dir.h"

#include <sqlite3.h>

#include <thread>

namespace bulkhead::controller {
namespace {

v1::Record record_of(std::uint64_t seq, std::int64_t time_us, v1::Record::Verdict verdict = v1::Record::ALLOWED)
{
    v1::Record record;
    record.set_seq(seq);
    record.set_time_us(time_us);
    record.set_kind(v1::Record::FLOW);
    record.set_verdict(verdict);
    return record;
}

class StoreTest : public testing::Test {
protected:
    void SetUp() override { open(); }
    void open(std::uint64_t max_bytes = 0)
    {
        stores = {};
        auto opened = open_sqlite({dir.file("test.db"), max_bytes});
        ASSERT_TRUE(opened) << opened.error().message;
        stores = std::move(*opened);
    }
    Result<std::vector<BatchOutcome>> append(const std::string& agent, std::vector<v1::Record> records)
    {
        const AgentBatch batch{agent, std::move(records)};
        return stores.records->append({&batch, 1});
    }
    v1::Record audit(const std::string& action) { return make_audit(system_clock(), {"admin", action, "", ""}); }
    void execute(const char* sql)
    {
        sqlite3* database = nullptr;
        ASSERT_EQ(sqlite3_open(dir.file("test.db").c_str(), &database), SQLITE_OK);
        EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database);
        sqlite3_close(database);
    }

    TemporaryDir dir;
    Stores stores;
};

TEST_F(StoreTest, ARecordSentTwiceIsStoredOnce)
{
    const auto first = append("a", {record_of(1, 10), record_of(2, 20)});
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_EQ(first->front().last_seq, 2U);
    const auto again = append("a", {record_of(1, 10), record_of(2, 99), record_of(3, 30)});
    ASSERT_TRUE(again);
    EXPECT_EQ(again->front().duplicates, 2U);
    EXPECT_EQ(again->front().last_seq, 3U);
    const auto other = append("b", {record_of(1, 40)});
    ASSERT_TRUE(other);
    EXPECT_EQ(other->front().duplicates, 0U);
    const auto stored = stores.records->after(0, 100);
    ASSERT_TRUE(stored);
    ASSERT_EQ(stored->size(), 4U);
    EXPECT_EQ((*stored)[1].record.time_us(), 20) << "the first one stays";
}

TEST_F(StoreTest, AHoleIsStoredAndCounted)
{
    ASSERT_TRUE(append("a", {record_of(1, 1)}));
    const auto later = append("a", {record_of(5, 2), record_of(6, 2), record_of(9, 3)});
    ASSERT_TRUE(later);
    EXPECT_EQ(later->front().missing, 5U);
    EXPECT_EQ(later->front().last_seq, 9U);
    EXPECT_EQ(*stores.records->last_seq("a"), 9U);
    EXPECT_EQ(*stores.records->last_seq("nobody"), 0U);
}

TEST_F(StoreTest, EverythingSurvivesReopening)
{
    ASSERT_TRUE(append("a", {record_of(1, 1), record_of(2, 2)}));
    ASSERT_TRUE(stores.control->append_policy({1, 5, "admin", "why", {{"a.yaml", "text"}, {"b.yaml", "more"}}},
                                              std::nullopt, audit("policy.apply")));
    const NumberedIdentity identity{7, "key"};
    ASSERT_TRUE(stores.control->add_identities({&identity, 1}));
    open();
    EXPECT_EQ(*stores.records->last_seq("a"), 2U);
    const auto policy = stores.control->policy(0);
    ASSERT_TRUE(policy && *policy);
    EXPECT_EQ((*policy)->version, 1U);
    ASSERT_EQ((*policy)->files.size(), 2U);
    EXPECT_EQ((*policy)->files[1].text, "more");
    EXPECT_EQ(stores.control->identities()->at(0).id, 7U);
    EXPECT_FALSE(*stores.control->policy(2));
}

TEST_F(StoreTest, APolicyVersionIsWrittenOnceAndItsAuditWithIt)
{
    ASSERT_TRUE(stores.control->append_policy({1, 5, "admin", "", {{"a", "b"}}}, std::nullopt, audit("policy.apply")));
    EXPECT_FALSE(stores.control->append_policy({1, 6, "other", "", {{"a", "c"}}}, std::nullopt, audit("policy.apply")));
    EXPECT_EQ((*stores.control->policy(1))->author, "admin");
    const auto records = stores.records->after(0, 10);
    ASSERT_TRUE(records);
    ASSERT_EQ(records->size(), 1U) << "the failed act left no audit record";
    EXPECT_EQ(records->front().record.seq(), 1U);
    EXPECT_EQ(records->front().record.agent_id(), "controller");
}

TEST_F(StoreTest, ADatabaseOfANewerVersionIsRefused)
{
    stores = {};
    execute("INSERT INTO migrations VALUES (999, 'later')");
    const auto opened = open_sqlite({dir.file("test.db"), 0});
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().kind, ErrorKind::refused);
    EXPECT_NE(opened.error().message.find("999"), std::string::npos) << opened.error().message;
}

TEST_F(StoreTest, AFileThatIsNoDatabaseIsAnError)
{
    FILE* file = std::fopen(dir.file("junk.db").c_str(), "w");
    std::fputs(std::string(8192, 'x').c_str(), file);
    std::fclose(file);
    EXPECT_FALSE(open_sqlite({dir.file("junk.db"), 0}));
    EXPECT_FALSE(open_sqlite({dir.file("no/such/folder/x.db"), 0}));
}

TEST_F(StoreTest, AFullDiskStoresNothingOfTheBatchAndHealsWhenThereIsRoom)
{
    open(200 * 1024);
    std::vector<v1::Record> many;
    for (std::uint64_t seq = 1; seq <= 4000; ++seq) {
        many.push_back(record_of(seq, 1));
        many.back().set_rule(std::string(200, 'r'));
    }
    const auto full = append("a", many);
    ASSERT_FALSE(full);
    EXPECT_EQ(*stores.records->last_seq("a"), 0U);
    EXPECT_EQ(*stores.records->newest_arrival(), 0U);
    open(0);
    const auto healed = append("a", many);
    ASSERT_TRUE(healed) << healed.error().message;
    EXPECT_EQ(healed->front().last_seq, 4000U);
    EXPECT_EQ(healed->front().duplicates, 0U);
}

TEST_F(StoreTest, ABadBatchTakesTheWholeTransactionBack)
{
    std::vector<AgentBatch> batches{{"a", {record_of(1, 1)}}, {"b", {record_of(1, 1)}}};
    batches[1].agent_id = std::string("b\0c", 3); // unusual, but a name like any other
    ASSERT_TRUE(stores.records->append(batches));
    EXPECT_EQ(*stores.records->last_seq(std::string("b\0c", 3)), 1U);
    EXPECT_EQ(*stores.records->last_seq("b"), 0U);
}

TEST_F(StoreTest, ScansPageThroughEqualTimesBothWays)
{
    std::vector<v1::Record> records;
    for (std::uint64_t seq = 1; seq <= 50; ++seq)
        records.push_back(record_of(seq, static_cast<std::int64_t>(100 + seq / 10)));
    ASSERT_TRUE(append("a", records));
    for (const bool newest_first : {false, true}) {
        RecordScan scan;
        scan.up_to_arrival = 50;
        scan.newest_first = newest_first;
        scan.limit = 7;
        std::vector<std::uint64_t> seen;
        for (;;) {
            const auto page = stores.records->scan(scan);
            ASSERT_TRUE(page) << page.error().message;
            for (const auto& stored : *page) {
                seen.push_back(stored.record.seq());
                scan.after = {stored.record.time_us(), stored.arrival};
            }
            if (page->size() < scan.limit)
                break;
        }
        ASSERT_EQ(seen.size(), 50U);
        EXPECT_TRUE(newest_first ? std::is_sorted(seen.rbegin(), seen.rend())
                                 : std::is_sorted(seen.begin(), seen.end()));
    }
}

TEST_F(StoreTest, ScansNarrowByTimeKindAndVerdictAndKeepGaps)
{
    auto gap = record_of(4, 400, v1::Record::VERDICT_UNSET);
    gap.set_kind(v1::Record::GAP);
    ASSERT_TRUE(append("a", {record_of(1, 100), record_of(2, 200, v1::Record::DENIED),
                             record_of(3, 300, v1::Record::WOULD_DENY), gap}));
    RecordScan scan;
    scan.up_to_arrival = 100;
    scan.verdicts = {v1::Record::DENIED};
    EXPECT_EQ(stores.records->scan(scan)->size(), 2U);
    scan.verdicts.clear();
    scan.since_us = 200;
    scan.until_us = 400;
    EXPECT_EQ(stores.records->scan(scan)->size(), 2U);
    scan.since_us = scan.until_us = 0;
    scan.kinds = {v1::Record::GAP};
    EXPECT_EQ(stores.records->scan(scan)->size(), 1U);
    scan.kinds.clear();
    scan.up_to_arrival = 1;
    EXPECT_EQ(stores.records->scan(scan)->size(), 1U);
}

class TokenTest : public StoreTest {
protected:
    static constexpr std::int64_t now = 1'000'000;
    const std::string hash = std::string(64, 'a');

    void add(std::uint32_t uses, std::int64_t expires_us)
    {
        ASSERT_TRUE(stores.control->add_token({hash, expires_us, uses, {{"env", "prod"}}}, audit("token.create")));
    }
    std::vector<AgentRow> agents() { return stores.control->load_inventory()->agents; }
    Result<EnrolmentOutcome> enrol(const std::string& id, const std::string& workload, const std::string& secret_hash,
                                   std::int64_t at = now)
    {
        Enrolment enrolment;
        enrolment.secret_hash = secret_hash;
        enrolment.agent.id = id;
        enrolment.agent.workload = workload;
        return stores.control->enrol(enrolment, at, audit("agent.enrol"));
    }
};

TEST_F(TokenTest, EachUseCountsAndTheLastIsTheLast)
{
    add(2, now + 1);
    EXPECT_TRUE(enrol("a1", "a", hash));
    const auto second = enrol("b1", "b", hash);
    ASSERT_TRUE(second);
    EXPECT_EQ(second->token_labels.at("env"), "prod");
    const auto third = enrol("c1", "c", hash);
    ASSERT_FALSE(third);
    EXPECT_EQ(third.error().kind, ErrorKind::refused);
    EXPECT_EQ(agents().size(), 2U);
}

TEST_F(TokenTest, AnExpiredOrUnknownTokenIsNothing)
{
    add(1, now);
    EXPECT_FALSE(enrol("a1", "a", hash, now));
    EXPECT_FALSE(*stores.control->token_valid(hash, now));
    EXPECT_TRUE(*stores.control->token_valid(hash, now - 1));
    EXPECT_FALSE(*stores.control->token_valid(std::string(63, 'a') + "b", now - 1));
    EXPECT_FALSE(*stores.control->token_valid("", now - 1));
    EXPECT_FALSE(*stores.control->token_valid(hash.substr(0, 63), now - 1));
}

TEST_F(TokenTest, AFailedEnrolmentSpendsNothing)
{
    add(1, now + 1);
    Enrolment enrolment;
    enrolment.secret_hash = hash;
    enrolment.agent.id = "a1";
    ASSERT_TRUE(enrol("x", "x", hash, now)); // takes the only use
    EXPECT_FALSE(enrol("a1", "a", hash));
    EXPECT_EQ(agents().size(), 1U);
}

TEST_F(TokenTest, OneUseGoesToOneOfManyAtOnce)
{
    add(1, now + 1);
    std::atomic<int> enrolled{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&, i] {
            if (enrol(fmt::format("agent-{}", i), fmt::format("host-{}", i), hash))
                ++enrolled;
        });
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(enrolled, 1);
}

TEST_F(TokenTest, EnrollingAHostAgainRevokesItsEarlierAgent)
{
    add(2, now + 1);
    ASSERT_TRUE(enrol("old", "web", hash));
    const auto again = enrol("new", "web", hash);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->replaced, std::vector<std::string>{"old"});
    for (const auto& agent : agents())
        EXPECT_EQ(agent.revoked, agent.id == "old");
    HostFacts late; // what the old one said last must not bring it back
    late.agent.id = "old";
    late.agent.workload = "web";
    ASSERT_TRUE(stores.control->save_hosts({&late, 1}));
    for (const auto& agent : agents())
        EXPECT_EQ(agent.revoked, agent.id == "old");
}

} // namespace
} // namespace bulkhead::controller
