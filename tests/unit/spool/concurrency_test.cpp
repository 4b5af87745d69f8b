// SPDX-License-Identifier: Apache-2.0
#include "faulty_files.h"
#include "spool_folder.h"

#include <thread>

namespace bulkhead::agent {
namespace {

using std::chrono::milliseconds;

TEST(Concurrency, WaitingReaderIsWokenByAnAppend)
{
    const SpoolFolder folder;
    const auto spool = folder.open();
    std::vector<v1::Record> got;
    std::thread reader([&] { got = *spool->read(0, 10, std::chrono::minutes(1)); });
    append(*spool, 1, 1);
    reader.join();
    ASSERT_EQ(got.size(), 1U);
    EXPECT_EQ(got[0].seq(), 1U);
}

TEST(Concurrency, EveryRecordArrivesOnceWhileWritersSyncersAndReadersRun)
{
    constexpr std::uint64_t per_writer = 3000;
    constexpr std::uint64_t writers = 3;
    const SpoolFolder folder;
    const auto spool = folder.open(16U << 10);
    std::vector<std::thread> threads;
    for (std::uint64_t writer = 0; writer < writers; ++writer)
        threads.emplace_back([&spool, writer] { append(*spool, writer * per_writer + 1, (writer + 1) * per_writer); });
    for (int reader = 0; reader < 2; ++reader) {
        threads.emplace_back([&spool] {
            std::vector<bool> seen(writers * per_writer + 1);
            std::uint64_t after = 0;
            while (after < writers * per_writer) {
                const auto some = spool->read(after, 97, std::chrono::minutes(1));
                ASSERT_TRUE(some);
                for (const auto& record : *some) {
                    ASSERT_EQ(record.seq(), ++after);
                    ASSERT_FALSE(seen.at(record.policy_version()));
                    seen[record.policy_version()] = true;
                }
                ASSERT_TRUE(spool->acknowledge(after));
            }
        });
    }
    threads.emplace_back([&spool] {
        while (spool->next_seq() <= writers * per_writer) {
            ASSERT_TRUE(spool->sync());
            (void)spool->bytes();
            (void)spool->first_seq();
        }
    });
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(spool->lost(), 0U);
}

TEST(Concurrency, TheFirstSegmentIsBegunWhileTheFolderIsSynced)
{
    const SpoolFolder folder;
    FaultyFiles files;
    const auto spool = folder.open(8U << 20, 256U << 20, files);
    files.in_next_sync = [&] { append(*spool, 1, 1); };
    ASSERT_TRUE(spool->sync());
    EXPECT_EQ(spool->next_seq(), 2U);
    files.syncs = 0;
    ASSERT_TRUE(spool->sync());
    EXPECT_EQ(files.syncs, 3U); // the segment, its name in the folder, the state
}

// The bound takes segments away under a slow reader.
TEST(Concurrency, ReaderOutrunByTheBoundSeesOrderAndGaps)
{
    const SpoolFolder folder;
    const auto spool = folder.open(1024, 8192);
    std::thread writer([&] {
        for (std::uint64_t i = 1; i <= 5000; ++i)
            ASSERT_TRUE(spool->append(numbered(i)));
    });
    std::uint64_t after = 0;
    std::uint64_t newest = 0;
    while (newest < 5000) {
        const auto some = spool->read(after, 5, std::chrono::minutes(1));
        ASSERT_TRUE(some);
        for (const auto& record : *some) {
            ASSERT_GT(record.seq(), after);
            after = record.seq();
            newest = std::max(newest, record.policy_version());
        }
    }
    writer.join();
}

} // namespace
} // namespace bulkhead::agent
