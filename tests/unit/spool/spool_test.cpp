// SPDX-License-Identifier: Apache-2.0
#include "spool_folder.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace bulkhead::agent {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST(Spool, NumbersFromOneAndReadsInOrder)
{
    const SpoolFolder folder;
    const auto spool = folder.open();
    EXPECT_EQ(spool->next_seq(), 1U);
    EXPECT_EQ(spool->first_seq(), 1U);
    append(*spool, 1, 300);
    const auto records = read_all(*spool);
    ASSERT_EQ(records.size(), 300U);
    for (std::uint64_t i = 0; i < 300; ++i) {
        EXPECT_EQ(records[i].seq(), i + 1);
        EXPECT_EQ(records[i].policy_version(), i + 1);
    }
    EXPECT_EQ(spool->next_seq(), 301U);
    EXPECT_EQ(spool->lost(), 0U);
}

TEST(Spool, ReadsFromAnyNumberUpToALimit)
{
    const SpoolFolder folder;
    const auto spool = folder.open(2000);
    append(*spool, 1, 500);
    for (const std::uint64_t after : {0U, 1U, 63U, 64U, 65U, 127U, 128U, 350U, 499U}) {
        const auto some = *spool->read(after, 3, milliseconds(0));
        ASSERT_FALSE(some.empty()) << after;
        EXPECT_LE(some.size(), 3U);
        EXPECT_EQ(some.front().seq(), after + 1);
        EXPECT_EQ(some.front().policy_version(), after + 1);
    }
    EXPECT_TRUE(spool->read(500, 3, milliseconds(0))->empty());
    EXPECT_TRUE(spool->read(~0ULL, 3, milliseconds(0))->empty());
    EXPECT_TRUE(spool->read(0, 0, milliseconds(0))->empty());
}

TEST(Spool, ABatchStaysUnderAMessagesSize)
{
    const SpoolFolder folder;
    const auto spool = folder.open();
    auto big = numbered(1);
    big.mutable_process()->set_cmdline(std::string(200'000, 'x'));
    for (int i = 0; i < 20; ++i)
        ASSERT_TRUE(spool->append(big));
    EXPECT_LE(spool->read(0, 1000, milliseconds(0))->size(), 7U);
    EXPECT_EQ(read_all(*spool).size(), 20U);
}

TEST(Spool, KeepsRecordsNumbersAndAcknowledgementAcrossRestarts)
{
    const SpoolFolder folder;
    for (std::uint64_t run = 0; run < 5; ++run) {
        const auto spool = folder.open(1500);
        EXPECT_EQ(spool->next_seq(), run * 100 + 1);
        EXPECT_EQ(spool->acknowledged(), run * 100 / 2);
        append(*spool, run * 100 + 1, run * 100 + 100);
        ASSERT_TRUE(spool->acknowledge((run + 1) * 100 / 2));
        EXPECT_EQ(read_all(*spool).size(), (run + 1) * 100);
    }
    EXPECT_GT(folder.segments().size(), 5U);
}

TEST(Spool, AcknowledgementNeverGoesBack)
{
    const SpoolFolder folder;
    const auto spool = folder.open();
    append(*spool, 1, 10);
    ASSERT_TRUE(spool->acknowledge(7));
    ASSERT_TRUE(spool->acknowledge(3));
    EXPECT_EQ(spool->acknowledged(), 7U);
}

TEST(Spool, AcknowledgedRecordsAreHistory)
{
    const SpoolFolder folder;
    const auto spool = folder.open();
    append(*spool, 1, 10);
    ASSERT_TRUE(spool->acknowledge(10));
    EXPECT_EQ(read_all(*spool).size(), 10U);
    EXPECT_EQ(spool->first_seq(), 1U);
}

TEST(Spool, SecondOpenerIsRefused)
{
    const SpoolFolder folder;
    const auto spool = folder.open();
    const auto second = open_spool({folder.path()});
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().message, HasSubstr("in use"));
}

TEST(Spool, BoundDropsAcknowledgedHistoryWithoutAGap)
{
    const SpoolFolder folder;
    const auto spool = folder.open(1024, 8192);
    for (std::uint64_t i = 1; i <= 2000; ++i) {
        ASSERT_TRUE(spool->append(numbered(i)));
        ASSERT_TRUE(spool->acknowledge(i));
        ASSERT_LE(spool->bytes(), 8192U);
    }
    EXPECT_EQ(spool->lost(), 0U);
    const auto records = read_all(*spool);
    EXPECT_TRUE(gaps_of(records).empty());
    EXPECT_EQ(records.back().policy_version(), 2000U);
    EXPECT_EQ(records.front().seq(), spool->first_seq());
}

TEST(Spool, BoundDropsUndeliveredRecordsAndSaysWhich)
{
    const SpoolFolder folder;
    const auto spool = folder.open(1024, 8192);
    append(*spool, 1, 100);
    ASSERT_TRUE(spool->acknowledge(20));
    for (std::uint64_t i = 101; i <= 300; ++i)
        ASSERT_TRUE(spool->append(numbered(i)));

    const auto records = read_all(*spool, spool->acknowledged());
    const auto first = records.front().seq();
    ASSERT_GT(first, 21U);
    std::uint64_t lost_until = 20;
    for (const auto& gap : gaps_of(records)) {
        EXPECT_EQ(gap.where(), "spool");
        EXPECT_EQ(gap.from_seq(), gap.from_seq() <= 21 ? 21U : lost_until + 1)
            << "no number is told twice or not at all";
        EXPECT_GE(gap.count(), gap.to_seq() - gap.from_seq() + 1 - gaps_of(records).size());
        lost_until = gap.to_seq();
    }
    EXPECT_EQ(lost_until, first - 1);
    EXPECT_EQ(spool->lost(), first - 21);
    for (std::size_t i = 1; i < records.size(); ++i)
        EXPECT_EQ(records[i].seq(), records[i - 1].seq() + 1);
}

TEST(Spool, GapRecordsCarryTheHostOfTheirNeighbours)
{
    const SpoolFolder folder;
    const auto spool = folder.open(1024, 4096);
    append(*spool, 1, 200);
    for (const auto& record : read_all(*spool)) {
        if (record.kind() != v1::Record::GAP)
            continue;
        EXPECT_EQ(record.host(), "host-1");
        EXPECT_EQ(record.agent_id(), "agent-1");
        EXPECT_NE(record.time_us(), 0);
        EXPECT_EQ(record.count(), 1U);
    }
}

// Flows, which whoever has a shell makes without end, while the controller is away.
class CrowdedSpool : public testing::Test {
protected:
    void SetUp() override { open(); }
    void open()
    {
        spool_.reset();
        auto opened = open_spool({folder_.path(), 16384, 1024, 8192});
        ASSERT_TRUE(opened) << opened.error().message;
        spool_ = *std::move(opened);
    }
    void append_violation(v1::Record::Kind kind, std::uint64_t number)
    {
        auto violation = numbered(number);
        violation.set_kind(kind);
        violation.set_verdict(v1::Record::DENIED);
        ASSERT_TRUE(spool_->append(violation));
        ++appended_;
    }
    void append_flows(std::uint64_t number)
    {
        append(*spool_, 1, number);
        appended_ += number;
    }
    // With what gap records tell of, all that was appended; gap records do not count.
    [[nodiscard]] std::uint64_t accounted_for() const
    {
        const auto records = read_all(*spool_);
        std::uint64_t sum = records.size();
        for (const auto& gap : gaps_of(records))
            sum += gap.count() - 1;
        return sum;
    }
    [[nodiscard]] std::size_t violations() const
    {
        const auto records = read_all(*spool_);
        return static_cast<std::size_t>(std::count_if(
            records.begin(), records.end(), [](const auto& one) { return one.verdict() == v1::Record::DENIED; }));
    }
    SpoolFolder folder_;
    std::unique_ptr<Spool> spool_;
    std::uint64_t appended_ = 0;
};

TEST_F(CrowdedSpool, FlowsPushOutNoViolation)
{
    for (std::uint64_t i = 0; i < 20; ++i) {
        append_violation(i % 2 == 0 ? v1::Record::VIOLATION : v1::Record::FLOW, i); // a session that was cut is a flow
        append_flows(200);
        ASSERT_TRUE(spool_->sync());
    }
    EXPECT_EQ(violations(), 20U);
    EXPECT_TRUE(gaps_of(read_all(*spool_)).empty()) << "they would take the room; one a minute tells";
    EXPECT_LT(spool_->bytes(), 16384U) << "the oldest is there yet";
    const auto lost = spool_->lost();
    open();
    EXPECT_EQ(accounted_for(), appended_);
    ASSERT_EQ(gaps_of(read_all(*spool_)).size(), 1U);
    EXPECT_EQ(gaps_of(read_all(*spool_))[0].where(), "spool");
    EXPECT_EQ(gaps_of(read_all(*spool_))[0].count(), lost);
    EXPECT_EQ(spool_->lost(), lost);
}

TEST_F(CrowdedSpool, FlowsAreRecordedAgainWhenSomeHaveBeenTaken)
{
    append_flows(1000);
    ASSERT_GT(spool_->lost(), 0U);
    const auto held = spool_->next_seq() - 1;
    const auto few = held / 20;
    ASSERT_TRUE(spool_->acknowledge(few));
    append_flows(1);
    EXPECT_EQ(spool_->next_seq() - 1, held) << "not back and forth with every acknowledgement";
    ASSERT_TRUE(spool_->acknowledge(held / 2));
    append_flows(1);
    EXPECT_EQ(spool_->next_seq() - 1, held + 2) << "what was lost, and the flow";
    EXPECT_EQ(accounted_for(), appended_);
    ASSERT_TRUE(spool_->acknowledge(held + 2));
    append_flows(10);
    EXPECT_EQ(spool_->next_seq() - 1, held + 12);
}

TEST_F(CrowdedSpool, ARestartDoesNotMakeRoom)
{
    append_flows(1000);
    open();
    const auto held = spool_->next_seq() - 1;
    append_flows(100);
    EXPECT_EQ(spool_->next_seq() - 1, held);
    open();
    EXPECT_EQ(accounted_for(), appended_);
}

TEST(Spool, WhereNobodyAcknowledgesTheNewestFlowsStay)
{
    const SpoolFolder folder;
    const auto spool = folder.open(1024, 16384);
    append(*spool, 1, 2000);
    EXPECT_EQ(read_all(*spool, spool->first_seq()).back().policy_version(), 2000U);
}

// A lost gap record must not take with it what it told.
TEST(Spool, LossToldByALostGapIsToldAgain)
{
    const SpoolFolder folder;
    const auto spool = folder.open(1024, 4096);
    v1::Record kernel_gap = numbered(1);
    kernel_gap.set_kind(v1::Record::GAP);
    kernel_gap.mutable_lost()->set_count(1'000'000);
    kernel_gap.mutable_lost()->set_where("kernel");
    ASSERT_TRUE(spool->append(kernel_gap));
    append(*spool, 2, 2000);
    std::uint64_t told = 0;
    for (const auto& gap : gaps_of(read_all(*spool)))
        told += gap.count();
    EXPECT_GE(told, 1'000'000U);
}

TEST(Spool, WholeLossIsKnownAfterRestart)
{
    const SpoolFolder folder;
    std::uint64_t lost = 0;
    {
        const auto spool = folder.open(1024, 4096);
        append(*spool, 1, 500);
        lost = spool->lost();
        ASSERT_GT(lost, 0U);
    }
    const auto spool = folder.open(1024, 4096);
    EXPECT_EQ(spool->lost(), lost);
    EXPECT_EQ(spool->next_seq(), read_all(*spool).back().seq() + 1);
    append(*spool, 501, 501);
    EXPECT_EQ(spool->lost(), lost) << "what had been reported is not reported again";
}

TEST(Spool, NumbersGoOnBehindWhatTheControllerHas)
{
    const SpoolFolder folder;
    {
        const auto spool = folder.open();
        append(*spool, 1, 5);
        ASSERT_TRUE(spool->acknowledge(1000)) << "an older life of this agent delivered a thousand";
        EXPECT_EQ(spool->next_seq(), 1001U);
        append(*spool, 6, 6);
        const auto records = read_all(*spool, spool->acknowledged());
        ASSERT_EQ(records.size(), 2U);
        ASSERT_EQ(gaps_of(records).size(), 1U);
        EXPECT_EQ(gaps_of(records)[0].count(), 5U);
        EXPECT_EQ(records[1].policy_version(), 6U);
    }
    EXPECT_EQ(folder.open()->next_seq(), 1003U);
    EXPECT_FALSE(folder.open()->acknowledge(~0ULL));
}

TEST(Spool, StringsThatAreNoUtf8AreRepairedNotLost)
{
    const SpoolFolder folder;
    const auto spool = folder.open();
    auto record = numbered(1);
    record.mutable_process()->set_comm("bad\xff");
    ASSERT_TRUE(spool->append(record));
    const auto records = read_all(*spool);
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].process().comm(), "bad\xef\xbf\xbd");
}

TEST(Spool, RecordThatCannotFitIsCountedNotWritten)
{
    const SpoolFolder folder;
    const auto spool = folder.open();
    auto record = numbered(1);
    record.mutable_process()->set_cmdline(std::string(300'000, 'x'));
    EXPECT_FALSE(spool->append(record));
    append(*spool, 2, 2);
    const auto records = read_all(*spool);
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[0].lost().count(), 1U);
    EXPECT_EQ(records[0].lost().where(), "agent");
    EXPECT_EQ(records[1].policy_version(), 2U);
}

TEST(Spool, NobodyElseCanReadTheFolder)
{
    const SpoolFolder parent;
    const auto dir = parent.path() + "/state/spool";
    const auto spool = open_spool({dir});
    ASSERT_TRUE(spool);
    append(**spool, 1, 1);
    using std::filesystem::perms;
    EXPECT_EQ(std::filesystem::status(dir).permissions() & (perms::group_all | perms::others_all), perms::none);
    for (const auto& entry : std::filesystem::directory_iterator(dir))
        EXPECT_EQ(entry.status().permissions() & (perms::group_all | perms::others_all), perms::none) << entry.path();
}

TEST(Spool, AFileInThePlaceOfTheFolderIsSetAside)
{
    const SpoolFolder folder;
    write_file(folder.path() + "/spool", "x");
    EXPECT_TRUE(open_spool({folder.path() + "/spool"}));
    EXPECT_TRUE(std::filesystem::is_regular_file(folder.path() + "/spool.damaged"));
}

TEST(Spool, UnusableFolderIsAnError)
{
    const SpoolFolder folder;
    write_file(folder.path() + "/file", "x");
    EXPECT_FALSE(open_spool({folder.path() + "/file/spool"}));
}

} // namespace
} // namespace bulkhead::agent
