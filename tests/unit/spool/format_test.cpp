// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/crc32c.h"
#include "agent/spool/record_frame.h"
#include "agent/spool/segment.h"
#include "agent/spool/state_file.h"
#include "spool_folder.h"

#include <gmock/gmock.h>

namespace bulkhead::agent {
namespace {

std::string segment(std::uint64_t first_seq, const std::vector<std::string>& payloads)
{
    auto bytes = encode_segment_header({first_seq, 0});
    for (const auto& payload : payloads)
        bytes += encode_frame(payload, false);
    return bytes;
}

TEST(Crc32c, KnownAnswers)
{
    EXPECT_EQ(crc32c(""), 0U);
    EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
    EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU); // RFC 3720, B.4
    EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
    const std::string text = "a spool of records, summed in two parts";
    EXPECT_EQ(crc32c(text.substr(7), crc32c(text.substr(0, 7))), crc32c(text));
}

TEST(Frame, LayoutIsTheDocumentedOne)
{
    const auto frame = encode_frame("abc", true);
    ASSERT_EQ(frame.size(), 11U);
    EXPECT_EQ(frame.substr(0, 4), std::string("\x03\x00\x00\x80", 4));
    EXPECT_EQ(frame.substr(8), "abc");
    const auto more = frame + "rest";
    const auto decoded = decode_frame(more);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->payload, "abc");
    EXPECT_TRUE(decoded->is_gap);
    EXPECT_EQ(decoded->size, 11U);
}

TEST(Frame, EveryCutAndEveryFlippedBitIsNoticed)
{
    const auto frame = encode_frame("a record", false);
    for (std::size_t size = 0; size < frame.size(); ++size)
        EXPECT_FALSE(decode_frame(std::string_view(frame).substr(0, size))) << size;
    for (std::size_t bit = 0; bit < 8 * frame.size(); ++bit) {
        auto flipped = frame + std::string(64, '\0');
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        EXPECT_FALSE(decode_frame(flipped)) << bit;
    }
}

TEST(Frame, EmptyAndEndlessPayloadsAreNoFrames)
{
    EXPECT_FALSE(decode_frame(std::string(64, '\0')));
    std::string huge;
    put_u32(0x7fffffff, huge);
    EXPECT_FALSE(decode_frame(huge + std::string(64, 'x')));
}

TEST(Segment, ScanFindsWhatIsWhole)
{
    const auto bytes = segment(5, {"one", "two", "three"});
    const auto scan = scan_segment(bytes);
    ASSERT_TRUE(scan);
    EXPECT_EQ(scan->header.first_seq, 5U);
    EXPECT_EQ(scan->count, 3U);
    EXPECT_EQ(scan->good_bytes, bytes.size());
    EXPECT_FALSE(scan->damaged);
}

TEST(Segment, TornEndIsNoDamage)
{
    const auto bytes = segment(5, {"one", "two", "three"});
    for (std::size_t size = segment_header_bytes; size < bytes.size(); ++size) {
        const auto scan = scan_segment(std::string_view(bytes).substr(0, size));
        ASSERT_TRUE(scan);
        EXPECT_LT(scan->count, 3U);
        EXPECT_FALSE(scan->damaged) << size;
    }
}

TEST(Segment, BadFrameBeforeAWholeOneIsDamage)
{
    auto bytes = segment(5, {"one", "two", "three"});
    bytes[segment_header_bytes + 11 + 8] ^= 1; // first letter of "two"
    const auto scan = scan_segment(bytes);
    ASSERT_TRUE(scan);
    EXPECT_EQ(scan->count, 1U);
    EXPECT_TRUE(scan->damaged);
    EXPECT_EQ(scan->claimed, 3U);
}

TEST(Segment, HeaderIsChecked)
{
    const auto bytes = segment(5, {"one"});
    EXPECT_FALSE(scan_segment(""));
    EXPECT_FALSE(scan_segment(std::string_view(bytes).substr(0, segment_header_bytes - 1)));
    for (std::size_t i = 0; i < segment_header_bytes; ++i) {
        auto bad = bytes;
        bad[i] ^= 0x40;
        EXPECT_FALSE(scan_segment(bad)) << i;
    }
    EXPECT_FALSE(scan_segment(segment(0, {})));
}

TEST(StateFile, EitherSlotAloneIsEnough)
{
    const SpoolFolder folder;
    const auto path = folder.path() + "/state";
    const SpoolState older{1, 2, 3, 4};
    const SpoolState newer{5, 6, 7, 8};
    {
        auto file = StateFile::open(system_files(), path);
        ASSERT_TRUE(file);
        ASSERT_TRUE(file->write(older));
        ASSERT_TRUE(file->write(newer));
    }
    EXPECT_EQ(StateFile::open(system_files(), path)->state(), newer);
    const auto bytes = read_file(path);
    for (const std::size_t slot : {0U, 4096U}) {
        auto spoilt = bytes;
        spoilt.at(slot + 20) ^= 1;
        write_file(path, spoilt);
        const auto state = StateFile::open(system_files(), path)->state();
        EXPECT_TRUE(state == older || state == newer);
    }
    write_file(path, "nonsense");
    EXPECT_EQ(StateFile::open(system_files(), path)->state(), SpoolState());
}

} // namespace
} // namespace bulkhead::agent
