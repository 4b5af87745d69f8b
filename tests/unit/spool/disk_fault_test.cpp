// SPDX-License-Identifier: Apache-2.0
#include "faulty_files.h"
#include "spool_folder.h"

#include <gmock/gmock.h>

namespace bulkhead::agent {
namespace {

using ::testing::HasSubstr;

constexpr auto no_limit = std::numeric_limits<std::uint64_t>::max();

// At every number of bytes that the disk may have left.
TEST(DiskFault, FullDiskLosesNothingThatWasTakenAndCountsTheRest)
{
    for (std::uint64_t room = 0; room < 700; room += 7) {
        const SpoolFolder folder;
        FaultyFiles files;
        const auto spool = folder.open(1024, 1U << 20, files);
        ASSERT_TRUE(spool);
        files.room = room;
        std::vector<std::uint64_t> taken;
        std::uint64_t refused = 0;
        for (std::uint64_t i = 1; i <= 30; ++i) {
            if (spool->append(numbered(i)))
                taken.push_back(i);
            else
                ++refused;
        }
        ASSERT_GT(refused, 0U);
        EXPECT_EQ(spool->lost(), refused);
        files.room = no_limit;
        append(*spool, 31, 31);
        taken.push_back(31);

        std::vector<std::uint64_t> read;
        std::uint64_t told = 0;
        std::uint64_t expected_seq = 1;
        for (const auto& record : read_all(*spool)) {
            EXPECT_EQ(record.seq(), expected_seq++) << "no holes in the numbers";
            if (record.kind() == v1::Record::GAP) {
                EXPECT_EQ(record.lost().where(), "agent");
                EXPECT_EQ(record.lost().from_seq(), 0U);
                told += record.lost().count();
            } else {
                read.push_back(record.policy_version());
            }
        }
        EXPECT_EQ(read, taken) << "room " << room;
        EXPECT_EQ(told, refused) << "room " << room;
    }
}

TEST(DiskFault, ErrorSaysWhichFileAndWhy)
{
    const SpoolFolder folder;
    FaultyFiles files;
    const auto spool = folder.open(1024, 1U << 20, files);
    append(*spool, 1, 1);
    files.room = 5;
    const auto status = spool->append(numbered(2));
    ASSERT_FALSE(status);
    EXPECT_THAT(status.error().message, HasSubstr(folder.path()));
    EXPECT_THAT(status.error().message, HasSubstr("No space left"));
}

TEST(DiskFault, UnreportedLossSurvivesARestart)
{
    const SpoolFolder folder;
    {
        FaultyFiles files;
        const auto spool = folder.open(1024, 1U << 20, files);
        append(*spool, 1, 3);
        ASSERT_TRUE(spool->sync());
        files.room = 0;
        ASSERT_FALSE(spool->append(numbered(4)));
        ASSERT_FALSE(spool->append(numbered(5)));
        EXPECT_FALSE(spool->sync()) << "the gap record did not fit";
        files.changes_left = 0;
    }
    const auto spool = folder.open();
    append(*spool, 6, 6);
    const auto gaps = gaps_of(read_all(*spool));
    ASSERT_EQ(gaps.size(), 1U);
    EXPECT_EQ(gaps[0].count(), 2U);
    EXPECT_EQ(spool->lost(), 2U);
}

TEST(DiskFault, LostGapOfTheKernelIsToldByTheNext)
{
    const SpoolFolder folder;
    FaultyFiles files;
    const auto spool = folder.open(1024, 1U << 20, files);
    auto gap = numbered(1);
    gap.set_kind(v1::Record::GAP);
    gap.mutable_lost()->set_count(500);
    gap.mutable_lost()->set_where("kernel");
    files.room = 0;
    ASSERT_FALSE(spool->append(gap));
    files.room = no_limit;
    append(*spool, 2, 2);
    const auto gaps = gaps_of(read_all(*spool));
    ASSERT_EQ(gaps.size(), 1U);
    EXPECT_EQ(gaps[0].count(), 501U);
}

TEST(DiskFault, SyncReportsLossOnAQuietHost)
{
    const SpoolFolder folder;
    FaultyFiles files;
    const auto spool = folder.open(1024, 1U << 20, files);
    append(*spool, 1, 1);
    files.room = 0;
    ASSERT_FALSE(spool->append(numbered(2)));
    files.room = no_limit;
    ASSERT_TRUE(spool->sync());
    EXPECT_EQ(gaps_of(read_all(*spool)).size(), 1U);
}

TEST(DiskFault, FailedSyncIsReportedAndRecordsStillGoOut)
{
    const SpoolFolder folder;
    FaultyFiles files;
    const auto spool = folder.open(1024, 1U << 20, files);
    append(*spool, 1, 3);
    files.broken_sync = true;
    EXPECT_FALSE(spool->sync());
    EXPECT_EQ(read_all(*spool).size(), 3U);
}

TEST(DiskFault, NothingIsHandedOutBeforeItIsOnTheDisk)
{
    const SpoolFolder folder;
    FaultyFiles files;
    const auto spool = folder.open(1024, 1U << 20, files);
    append(*spool, 1, 3);
    const auto before = files.syncs;
    EXPECT_EQ(read_all(*spool).size(), 3U);
    EXPECT_GT(files.syncs, before);
    const auto after = files.syncs;
    EXPECT_EQ(read_all(*spool).size(), 3U);
    EXPECT_EQ(files.syncs, after) << "one sync is enough";
}

TEST(DiskFault, OpensOnAFullDisk)
{
    const SpoolFolder folder;
    FaultyFiles files;
    files.room = 0;
    const auto spool = folder.open(1024, 1U << 20, files);
    ASSERT_TRUE(spool);
    EXPECT_FALSE(spool->append(numbered(1)));
    files.room = no_limit;
    append(*spool, 2, 2);
    EXPECT_EQ(read_all(*spool).size(), 2U);
}

} // namespace
} // namespace bulkhead::agent
