// SPDX-License-Identifier: Apache-2.0
#include "common/record/json.h"
#include "common/record/names.h"

#include <gtest/gtest.h>

namespace bulkhead::record
{
namespace
{

TEST(Names, EveryValueHasItsOwnWordAndBack)
{
    for (int i = 1; i < v1::Record::Kind_ARRAYSIZE; ++i)
        EXPECT_EQ(parse_kind(to_string(static_cast<v1::Record::Kind>(i))), i);
    for (int i = 1; i < v1::Record::Event_ARRAYSIZE; ++i)
        EXPECT_EQ(parse_event(to_string(static_cast<v1::Record::Event>(i))), i);
    for (int i = 1; i < v1::Record::Verdict_ARRAYSIZE; ++i)
        EXPECT_EQ(parse_verdict(to_string(static_cast<v1::Record::Verdict>(i))), i);
    for (int i = 1; i < v1::Record::Reason_ARRAYSIZE; ++i)
        EXPECT_EQ(parse_reason(to_string(static_cast<v1::Record::Reason>(i))), i);
    for (int i = 1; i < v1::Record::Direction_ARRAYSIZE; ++i)
        EXPECT_EQ(parse_direction(to_string(static_cast<v1::Record::Direction>(i))), i);
}

TEST(Names, UnsetAndUnknownValuesHaveNone)
{
    EXPECT_EQ(to_string(v1::Record::VERDICT_UNSET), "");
    EXPECT_EQ(to_string(static_cast<v1::Record::Verdict>(99)), "");
    EXPECT_EQ(to_string(static_cast<v1::Record::Verdict>(-1)), "");
    EXPECT_FALSE(parse_verdict(""));
    EXPECT_FALSE(parse_verdict("Denied"));
}

TEST(Names, Protocols)
{
    EXPECT_EQ(parse_protocol("tcp"), 6U);
    EXPECT_EQ(parse_protocol("132"), 132U);
    for (const char* text : {"", "0", "256", "-1", "6x", "TCP/IP"})
        EXPECT_FALSE(parse_protocol(text)) << text;
}

TEST(Names, AddressesAreReadInBothSizes)
{
    EXPECT_EQ(ip_to_string(std::string("\x0a\x00\x00\x01", 4)), "10.0.0.1");
    EXPECT_EQ(ip_to_string(std::string(10, '\0') + std::string("\xff\xff\x0a\x00\x00\x01", 6)), "10.0.0.1");
    EXPECT_EQ(ip_to_string(std::string(15, '\0') + '\1'), "::1");
    EXPECT_EQ(ip_to_string(""), "");
    EXPECT_EQ(ip_to_string("12345"), "");
}

} // namespace
} // namespace bulkhead::record
