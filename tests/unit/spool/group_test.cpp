// SPDX-License-Identifier: Apache-2.0
// Several records appended at once are what they would be one by one.
#include "faulty_files.h"
#include "spool_folder.h"

#include <gmock/gmock.h>

namespace bulkhead::agent {
namespace {

using ::testing::ElementsAre;

std::vector<v1::Record> group(std::uint64_t from, std::uint64_t to)
{
    std::vector<v1::Record> records;
    for (auto i = from; i <= to; ++i)
        records.push_back(numbered(i));
    return records;
}

v1::Record gap_of(std::uint64_t count)
{
    v1::Record record = numbered(0);
    record.set_kind(v1::Record::GAP);
    record.mutable_lost()->set_count(count);
    record.mutable_lost()->set_where("kernel");
    return record;
}

std::vector<std::string> contents(const SpoolFolder& folder)
{
    std::vector<std::string> all;
    for (const auto& path : folder.segments())
        all.push_back(std::filesystem::path(path).filename().string() + ":" + read_file(path));
    return all;
}

// Groups of every size over segments and a bound that hold only some of them.
TEST(Group, LeavesTheSameFilesAsOneByOne)
{
    for (std::uint64_t size = 1; size <= 40; size += 3) {
        const SpoolFolder in_groups, alone;
        const auto grouped = in_groups.open(1024, 4500), single = alone.open(1024, 4500);
        for (std::uint64_t from = 1; from <= 240; from += size) {
            auto records = group(from, from + size - 1);
            if (from % 2 == 0)
                records.insert(records.begin() + static_cast<std::ptrdiff_t>(records.size() / 2), gap_of(from));
            for (const auto& record : records)
                ASSERT_TRUE(single->append(record));
            ASSERT_TRUE(grouped->append_all(records));
            ASSERT_EQ(contents(in_groups), contents(alone)) << "groups of " << size << " from " << from;
            ASSERT_LE(grouped->bytes(), 4500U);
        }
        EXPECT_EQ(grouped->next_seq(), single->next_seq());
        EXPECT_EQ(grouped->bytes(), single->bytes());
        EXPECT_EQ(grouped->lost(), single->lost());
    }
}

TEST(Group, IsOneWrite)
{
    const SpoolFolder folder;
    FaultyFiles files;
    const auto spool = folder.open(8U << 20, 256U << 20, files);
    append(*spool, 1, 1); // begins the segment
    const auto before = files.changes;
    ASSERT_TRUE(spool->append_all(group(2, 9)));
    EXPECT_EQ(files.changes - before, 1U);
    EXPECT_EQ(read_all(*spool).size(), 9U);
}

TEST(Group, NothingIsAskedOfTheDiskForNone)
{
    const SpoolFolder folder;
    FaultyFiles files;
    const auto spool = folder.open(8U << 20, 256U << 20, files);
    const auto before = files.changes;
    ASSERT_TRUE(spool->append_all({}));
    EXPECT_EQ(files.changes, before);
    EXPECT_EQ(spool->next_seq(), 1U);
}

// At every number of bytes that the disk may have left, what fits of a group is kept, and the rest counted.
TEST(Group, FullDiskKeepsWhatFitsAndCountsTheRest)
{
    for (std::uint64_t room = 0; room < 900; room += 7) {
        const SpoolFolder folder;
        FaultyFiles files;
        const auto spool = folder.open(1024, 1U << 20, files);
        files.room = room;
        std::uint64_t given = 0;
        for (std::uint64_t from = 1; from <= 25; from += 5, given += 5)
            (void)spool->append_all(group(from, from + 4));
        const auto lost = spool->lost();
        ASSERT_GT(lost, 0U);
        files.room = std::numeric_limits<std::uint64_t>::max();
        append(*spool, 26, 26);

        std::uint64_t kept = 0, told = 0, last = 0, expected_seq = 1;
        for (const auto& record : read_all(*spool)) {
            EXPECT_EQ(record.seq(), expected_seq++) << "no holes in the numbers";
            told += record.lost().count();
            if (record.kind() == v1::Record::GAP)
                continue;
            ++kept;
            EXPECT_GT(record.policy_version(), last) << "each once, and in order";
            last = record.policy_version();
        }
        EXPECT_EQ(told, lost) << "room " << room;
        EXPECT_EQ(kept + lost, given + 1) << "room " << room;
    }
}

TEST(Group, ARecordThatIsTooLargeIsLostAloneAndTold)
{
    const SpoolFolder folder;
    const auto spool = folder.open();
    auto records = group(1, 3);
    records[1].mutable_process()->set_cmdline(std::string(4U << 20, 'x'));
    EXPECT_FALSE(spool->append_all(std::move(records)));
    std::vector<std::uint64_t> kept;
    std::uint64_t told = 0;
    for (const auto& record : read_all(*spool)) {
        told += record.lost().count();
        if (record.kind() != v1::Record::GAP)
            kept.push_back(record.policy_version());
    }
    EXPECT_THAT(kept, ElementsAre(1, 3));
    EXPECT_EQ(told, 1U);
}

} // namespace
} // namespace bulkhead::agent
