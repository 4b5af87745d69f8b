// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/segment.h"
#include "spool_folder.h"

#include <gmock/gmock.h>

namespace bulkhead::agent {
namespace {

using ::testing::IsEmpty;

// The numbers must rise, and every number from `from` on is either there or told of by a gap.
void expect_whole_story(const std::vector<v1::Record>& records, std::uint64_t from, std::uint64_t next)
{
    std::vector<bool> known(next);
    std::uint64_t last = 0;
    for (const auto& record : records) {
        EXPECT_GT(record.seq(), last);
        last = record.seq();
        known.at(record.seq()) = true;
        for (auto seq = record.lost().from_seq(); seq != 0 && seq <= record.lost().to_seq(); ++seq)
            known.at(seq) = true;
    }
    for (auto seq = from; seq < next; ++seq)
        EXPECT_TRUE(known[seq]) << seq;
}

// The file as it was in the middle of any write, after kill -9.
TEST(Crash, EveryCutOfTheLastSegmentRecoversAPrefix)
{
    const SpoolFolder original;
    append(*original.open(), 1, 12);
    // The state of a process that died before its first sync: it knows of no numbers.
    std::filesystem::remove(original.path() + "/state");
    const auto bytes = read_file(original.segments().at(0));
    std::size_t whole_before = 0;
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
        const SpoolFolder folder;
        const auto path = folder.path() + "/" + std::filesystem::path(original.segments()[0]).filename().string();
        write_file(path, bytes.substr(0, size));
        const auto spool = folder.open();
        ASSERT_TRUE(spool);
        const auto records = read_all(*spool);
        for (std::size_t i = 0; i < records.size(); ++i)
            ASSERT_EQ(records[i].policy_version(), i + 1) << "cut at " << size;
        ASSERT_GE(records.size(), whole_before);
        ASSERT_LE(records.size(), whole_before + 1);
        whole_before = records.size();
        EXPECT_EQ(spool->lost(), 0U);

        append(*spool, 100, 101);
        const auto after = read_all(*spool);
        ASSERT_EQ(after.size(), records.size() + 2) << "cut at " << size;
        EXPECT_EQ(after.back().policy_version(), 101U);
        EXPECT_THAT(folder.files_ending(".damaged"), IsEmpty());
    }
    EXPECT_EQ(whole_before, 12U);
}

TEST(Crash, WhatWasSyncedAndIsGoneIsToldAndItsNumbersAreNotUsedAgain)
{
    const SpoolFolder folder;
    append(*folder.open(), 1, 10);
    const auto path = folder.segments().at(0);
    const auto bytes = read_file(path);
    write_file(path, bytes.substr(0, bytes.size() - 1));
    const auto spool = folder.open();
    EXPECT_EQ(spool->next_seq(), 11U);
    append(*spool, 11, 11);
    const auto records = read_all(*spool);
    ASSERT_EQ(gaps_of(records).size(), 1U);
    EXPECT_EQ(gaps_of(records)[0].from_seq(), 10U);
    EXPECT_EQ(gaps_of(records)[0].to_seq(), 10U);
    EXPECT_EQ(records.back().policy_version(), 11U);
    EXPECT_EQ(records.back().seq(), 12U);
}

class DamagedFolder : public testing::Test {
protected:
    void SetUp() override
    {
        append(*folder.open(1024), 1, 100);
        ASSERT_GE(folder.segments().size(), 4U);
    }
    std::vector<v1::Record> recover_and_append()
    {
        const auto spool = folder.open(1024);
        EXPECT_EQ(spool->next_seq(), 101U);
        append(*spool, 101, 101);
        auto records = read_all(*spool, spool->acknowledged());
        EXPECT_EQ(records.back().policy_version(), 101U);
        lost = spool->lost();
        expect_whole_story(records, spool->acknowledged() + 1, spool->next_seq());
        return records;
    }
    static std::uint64_t first_of(const std::string& path)
    {
        return decode_segment_header(read_file(path)).value().first_seq;
    }

    SpoolFolder folder;
    std::uint64_t lost = 0;
};

TEST_F(DamagedFolder, BadRecordInTheMiddleSetsTheSegmentAside)
{
    const auto segments = folder.segments();
    auto bytes = read_file(segments[1]);
    bytes[bytes.size() / 2] ^= 1;
    write_file(segments[1], bytes);
    const auto gaps = gaps_of(recover_and_append());
    ASSERT_EQ(gaps.size(), 1U);
    EXPECT_EQ(gaps[0].where(), "spool");
    EXPECT_GT(gaps[0].from_seq(), first_of(segments[1])) << "the records before the damage are kept";
    EXPECT_EQ(gaps[0].to_seq(), first_of(segments[2]) - 1);
    EXPECT_EQ(gaps[0].count(), gaps[0].to_seq() - gaps[0].from_seq() + 1);
    EXPECT_EQ(lost, gaps[0].count());
    ASSERT_EQ(folder.files_ending(".damaged").size(), 1U);
    EXPECT_EQ(read_file(folder.files_ending(".damaged")[0]), bytes) << "the evidence is untouched";
    // Told once, not at every start.
    EXPECT_EQ(gaps_of(read_all(*folder.open(1024))).size(), 1U);
}

TEST_F(DamagedFolder, BadRecordInTheLastSegmentIsNoTornTail)
{
    const auto path = folder.segments().back();
    auto bytes = read_file(path);
    bytes[segment_header_bytes + 9] ^= 1;
    write_file(path, bytes);
    const auto gaps = gaps_of(recover_and_append());
    ASSERT_EQ(gaps.size(), 1U);
    EXPECT_EQ(gaps[0].to_seq(), 100U);
    EXPECT_EQ(folder.files_ending(".damaged").size(), 1U);
}

TEST_F(DamagedFolder, BadHeaderLosesTheSegment)
{
    const auto segments = folder.segments();
    auto bytes = read_file(segments[2]);
    bytes[9] ^= 1;
    write_file(segments[2], bytes);
    const auto begin = first_of(segments[3]);
    const auto gaps = gaps_of(recover_and_append());
    ASSERT_EQ(gaps.size(), 1U);
    EXPECT_EQ(gaps[0].to_seq(), begin - 1);
}

TEST_F(DamagedFolder, MissingSegmentIsAGap)
{
    const auto segments = folder.segments();
    const auto from = first_of(segments[1]);
    const auto to = first_of(segments[2]) - 1;
    std::filesystem::remove(segments[1]);
    const auto gaps = gaps_of(recover_and_append());
    ASSERT_EQ(gaps.size(), 1U);
    EXPECT_EQ(gaps[0].from_seq(), from);
    EXPECT_EQ(gaps[0].to_seq(), to);
}

TEST_F(DamagedFolder, MissingFirstSegmentIsAGapOnlyWhereNotAcknowledged)
{
    const auto segments = folder.segments();
    const auto second = first_of(segments[1]);
    ASSERT_TRUE(folder.open(1024)->acknowledge(3));
    std::filesystem::remove(segments[0]);
    const auto gaps = gaps_of(recover_and_append());
    ASSERT_EQ(gaps.size(), 1U);
    EXPECT_EQ(gaps[0].from_seq(), 4U);
    EXPECT_EQ(gaps[0].to_seq(), second - 1);
}

TEST_F(DamagedFolder, AllSegmentsGoneIsAGapAndNumbersGoOn)
{
    for (const auto& segment : folder.segments())
        std::filesystem::remove(segment);
    const auto gaps = gaps_of(recover_and_append());
    ASSERT_EQ(gaps.size(), 1U);
    EXPECT_EQ(gaps[0].count(), 100U);
}

TEST_F(DamagedFolder, LossOfAcknowledgedRecordsIsNoGap)
{
    ASSERT_TRUE(folder.open(1024)->acknowledge(100));
    std::filesystem::remove(folder.segments()[1]);
    EXPECT_THAT(gaps_of(recover_and_append()), IsEmpty());
}

TEST_F(DamagedFolder, SegmentInTheWrongPlaceIsSetAside)
{
    const auto segments = folder.segments();
    write_file(segments[1], read_file(segments[2])); // carries another number than its name
    EXPECT_EQ(gaps_of(recover_and_append()).size(), 1U);
    EXPECT_EQ(folder.files_ending(".damaged").size(), 1U);
}

TEST_F(DamagedFolder, LostStateDeliversAgainInsteadOfLosing)
{
    ASSERT_TRUE(folder.open(1024)->acknowledge(50));
    std::filesystem::remove(folder.path() + "/state");
    const auto records = recover_and_append();
    EXPECT_THAT(gaps_of(records), IsEmpty());
    EXPECT_EQ(records.front().seq(), 1U);
}

TEST_F(DamagedFolder, DamageUnderARunningAgentIsToldToo)
{
    const auto spool = folder.open(1024);
    const auto path = folder.segments()[1];
    {
        std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(segment_header_bytes) + 60);
        file.put('\xff').put('\xff').put('\xff');
    }
    (void)read_all(*spool); // meets it
    append(*spool, 101, 101);
    const auto records = read_all(*spool);
    EXPECT_EQ(gaps_of(records).size(), 1U);
    EXPECT_EQ(records.back().policy_version(), 101U);
    expect_whole_story(records, 1, spool->next_seq());
    EXPECT_GT(spool->lost(), 0U);
    EXPECT_EQ(folder.files_ending(".damaged").size(), 1U);
}

TEST_F(DamagedFolder, OnlyAFewDamagedFilesAreKept)
{
    for (std::size_t i = 0; i + 1 < folder.segments().size(); ++i) {
        auto bytes = read_file(folder.segments()[i]);
        bytes[0] ^= 1;
        write_file(folder.segments()[i], bytes);
        (void)folder.open(1024);
    }
    append(*folder.open(1024), 1, 400);
    for (const auto& path : folder.segments())
        write_file(path, std::string(100, 'x'));
    (void)folder.open(1024);
    EXPECT_LE(folder.files_ending(".damaged").size(), 4U);
}

} // namespace
} // namespace bulkhead::agent
