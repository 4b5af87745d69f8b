// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/ring_reader.h"

#include "ring_writer.skel.h"

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

namespace bulkhead::agent {
namespace {

struct Destroy {
    void operator()(::ring_writer* skeleton) const { ::ring_writer::destroy(skeleton); }
};

std::uint32_t word_at(std::span<const std::byte> record, std::size_t offset)
{
    std::uint32_t word = 0;
    std::memcpy(&word, record.data() + offset, sizeof(word));
    return word;
}

class Ring : public ::testing::TestWithParam<std::size_t> {
protected:
    void SetUp() override
    {
        if (::geteuid() != 0)
            GTEST_SKIP() << "needs root: loads a program";
        writer_.reset(::ring_writer::open_and_load());
        ASSERT_TRUE(writer_);
    }
    [[nodiscard]] int fd() const { return bpf_map__fd(writer_->maps.ring); }
    void write(int records) const
    {
        std::array<char, 64> frame{};
        LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(), .data_size_in = frame.size(), .repeat = records);
        ASSERT_EQ(bpf_prog_test_run_opts(bpf_program__fd(writer_->progs.write_one), &run), 0);
    }
    // Reads, and checks that each record is the next of those that were not given up, and is whole.
    void read_on(RingReader& reader)
    {
        const auto check = [this](std::span<const std::byte> record) {
            expected_ += expected_ % 5 == 0 ? 1 : 0;
            ASSERT_EQ(record.size(), expected_ % 2 == 1 ? 1004U : 20U);
            ASSERT_EQ(word_at(record, 0), expected_);
            ASSERT_EQ(word_at(record, record.size() - 4), ~expected_);
            ++expected_;
        };
        const auto read = reader.read(check, 7, [] {});
        ASSERT_TRUE(read) << read.error().message;
        records_ += *read;
    }

    std::unique_ptr<::ring_writer, Destroy> writer_;
    std::uint32_t expected_ = 0;
    std::size_t records_ = 0;
};

// Windows smaller than the ring, as long as it, and longer.
INSTANTIATE_TEST_SUITE_P(Windows, Ring, ::testing::Values(1, 16'384, 65'536, 1'000'000));

TEST_P(Ring, EveryRecordIsReadOnceAndInOrderManyTimesRound)
{
    auto reader = RingReader::open(fd(), GetParam());
    ASSERT_TRUE(reader) << reader.error().message;
    for (int i = 0; i < 1000; ++i) { // 25 MB through a ring of 64 KiB
        write(50);
        EXPECT_GT(reader->unread(), 0U);
        ASSERT_NO_FATAL_FAILURE(read_on(*reader));
        EXPECT_EQ(reader->unread(), 0U);
    }
    EXPECT_EQ(records_, 40'000U);
    EXPECT_EQ(writer_->bss->lost, 0U);
}

TEST_P(Ring, ItMayBeReadByAnotherAfterwards)
{
    for (int i = 0; i < 5; ++i) {
        auto reader = RingReader::open(fd(), GetParam());
        ASSERT_TRUE(reader);
        write(33);
        ASSERT_NO_FATAL_FAILURE(read_on(*reader));
    }
    EXPECT_EQ(records_, 132U);
}

TEST_P(Ring, AFullRingLosesWhatComesThenAndNothingElse)
{
    auto reader = RingReader::open(fd(), GetParam());
    ASSERT_TRUE(reader);
    write(1000);
    EXPECT_GT(writer_->bss->lost, 0U);
    std::uint32_t last = 0;
    const auto check = [&](std::span<const std::byte> record) {
        EXPECT_GT(word_at(record, 0), last);
        last = word_at(record, 0);
        EXPECT_EQ(word_at(record, record.size() - 4), ~last);
    };
    const auto read = reader->read(check, 1, [] {});
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_GT(*read, 90U); // of 1,004 and 20 bytes in turn, in 64 KiB; at the end there is room for short ones alone
    EXPECT_EQ(reader->unread(), 0U);
}

TEST_F(Ring, WhatIsNotSettledIsReadAgainByTheNextReader)
{
    auto reader = RingReader::open(fd());
    ASSERT_TRUE(reader);
    write(11); // the first, the sixth and the last are given up
    std::size_t seen = 0, settled = 0;
    std::vector<std::size_t> left_to_others; // by each reader that would come while this one reads
    const auto count = [&](std::span<const std::byte>) {
        ++seen;
        auto other = RingReader::open(fd());
        left_to_others.push_back(other ? other->unread() : 0);
    };
    const auto read = reader->read(count, 3, [&] {
        EXPECT_TRUE(seen == 2 || seen == 4 || seen == 7 || seen == 8) << seen;
        settled = seen;
    });
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, 8U);
    EXPECT_EQ(settled, 8U);
    ASSERT_EQ(left_to_others.size(), 8U);
    EXPECT_EQ(left_to_others[0], left_to_others[1]); // nothing was taken out before the second was settled
    EXPECT_LT(left_to_others[2], left_to_others[1]);
    EXPECT_EQ(left_to_others[2], left_to_others[3]);
    EXPECT_LT(left_to_others[4], left_to_others[3]);
    EXPECT_EQ(left_to_others[4], left_to_others[6]);
    EXPECT_EQ(reader->unread(), 0U);
}

TEST_F(Ring, TellsWhenThereIsSomething)
{
    auto reader = RingReader::open(fd());
    ASSERT_TRUE(reader);
    pollfd waiting{reader->fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&waiting, 1, 0), 0);
    write(2);
    EXPECT_EQ(::poll(&waiting, 1, 0), 1);
}

TEST_F(Ring, IsNotAnyMap)
{
    const auto refused = RingReader::open(bpf_map__fd(writer_->maps.bss));
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, ::testing::HasSubstr("no ring"));
    EXPECT_FALSE(RingReader::open(-1));
}

} // namespace
} // namespace bulkhead::agent
