// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/record_writer.h"
#include "tests/harness/fake_clock.h"
#include "tests/unit/agent/memory_spool.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using test::MemorySpool;

TEST(RecordWriter, StampsWhoAndWhen)
{
    MemorySpool spool;
    const test::FakeClock clock;
    RecordWriter writer(spool, clock);
    writer.set_origin("web-1", "id", "boot");
    writer.audit("policy.enforce", "folder", "version 3");
    ASSERT_EQ(spool.records.size(), 1U);
    const auto& record = spool.records[0];
    EXPECT_EQ(record.kind(), v1::Record::AUDIT);
    EXPECT_EQ(record.host(), "web-1");
    EXPECT_EQ(record.agent_id(), "id");
    EXPECT_EQ(record.boot_id(), "boot");
    EXPECT_EQ(record.audit().actor(), "web-1");
    EXPECT_EQ(record.audit().action(), "policy.enforce");
    EXPECT_EQ(record.audit().object(), "folder");
    EXPECT_EQ(record.audit().message(), "version 3");
    EXPECT_EQ(record.time_us(), 1'700'000'000'000'000);
    EXPECT_EQ(record.count(), 1U);
}

TEST(RecordWriter, AnEventKeepsItsOwnTime)
{
    MemorySpool spool;
    const test::FakeClock clock;
    RecordWriter writer(spool, clock);
    v1::Record record;
    record.set_time_us(5);
    record.set_count(7);
    writer.write(std::move(record));
    EXPECT_EQ(spool.records[0].time_us(), 5);
    EXPECT_EQ(spool.records[0].count(), 7U);
}

TEST(RecordWriter, WhatIsCollectedIsWrittenInOrderAtAFlushAndStampedBefore)
{
    MemorySpool spool;
    const test::FakeClock clock;
    RecordWriter writer(spool, clock);
    writer.set_origin("web-1", "id", "boot");
    for (std::uint64_t i = 1; i <= 3; ++i) {
        v1::Record record;
        record.set_policy_version(i);
        writer.collect(std::move(record));
    }
    EXPECT_TRUE(spool.records.empty());
    writer.audit("policy.enforce", "folder", ""); // does not wait
    ASSERT_EQ(spool.records.size(), 1U);
    writer.flush();
    writer.flush();
    ASSERT_EQ(spool.records.size(), 4U);
    for (std::uint64_t i = 1; i <= 3; ++i) {
        EXPECT_EQ(spool.records[i].policy_version(), i);
        EXPECT_EQ(spool.records[i].host(), "web-1");
        EXPECT_EQ(spool.records[i].time_us(), 1'700'000'000'000'000);
    }
}

TEST(RecordWriter, DoesNotCollectWithoutEnd)
{
    MemorySpool spool;
    const test::FakeClock clock;
    RecordWriter writer(spool, clock);
    for (int i = 0; i < 1000; ++i)
        writer.collect({});
    EXPECT_GT(spool.records.size(), 900U);
    writer.flush();
    EXPECT_EQ(spool.records.size(), 1000U);
}

TEST(PatientSpool, CountsEachOfSeveralThatItCannotKeep)
{
    const test::FakeClock clock;
    const auto spool = make_patient_spool(
        []() -> Result<std::unique_ptr<Spool>> { return fail(ErrorKind::failed, "no space left"); }, clock);
    EXPECT_FALSE(spool->append_all(std::vector<v1::Record>(3)));
    EXPECT_EQ(spool->lost(), 3U);
}

TEST(PatientSpool, CountsWhatItCannotKeepAndReportsItWhenTheDiskIsBack)
{
    test::FakeClock clock;
    MemorySpool* opened = nullptr;
    bool disk_full = true;
    int attempts = 0;
    const auto spool = make_patient_spool(
        [&]() -> Result<std::unique_ptr<Spool>> {
            ++attempts;
            if (disk_full)
                return fail(ErrorKind::failed, "no space left");
            auto made = std::make_unique<MemorySpool>();
            opened = made.get();
            return made;
        },
        clock);
    EXPECT_FALSE(spool->append({}));
    EXPECT_FALSE(spool->append({}));
    EXPECT_EQ(spool->lost(), 2U);
    EXPECT_EQ(spool->next_seq(), 1U);
    EXPECT_TRUE(spool->read(0, 10, 0ms)->empty());

    disk_full = false;
    ASSERT_TRUE(spool->sync());
    EXPECT_EQ(attempts, 1); // not every second
    clock.advance(5s);
    ASSERT_TRUE(spool->sync());
    ASSERT_NE(opened, nullptr);
    ASSERT_TRUE(spool->append({}));
    ASSERT_EQ(opened->records.size(), 2U);
    EXPECT_EQ(opened->records[0].kind(), v1::Record::GAP);
    EXPECT_EQ(opened->records[0].lost().count(), 2U);
    EXPECT_EQ(opened->records[0].lost().where(), "agent");
}

} // namespace
} // namespace bulkhead::agent
