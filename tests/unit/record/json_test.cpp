// SPDX-License-Identifier: Apache-2.0
#include "common/record/json.h"
#include "sample.h"

#include <google/protobuf/util/message_differencer.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck/gtest.h>

namespace bulkhead::record
{
namespace
{

using google::protobuf::util::MessageDifferencer;
using ::testing::HasSubstr;

TEST(Json, FieldsHaveThePromisedNamesAndOrder)
{
    EXPECT_EQ(
        to_json(denied_attempt()),
        R"({"time":"2026-11-21T01:43:59.000123Z","kind":"violation","event":"deny",)"
        R"("flow_id":"000102030405060708090a0b0c0d0eff","host":"web-1","agent_id":"a-1","boot_id":"b-1","seq":42,)"
        R"("direction":"outbound","verdict":"denied","reason":"default","shadow_verdict":"denied",)"
        R"("rule":"shop-db/default-inbound","shadow_rule":"shop-db/default-inbound","policy_version":3,)"
        R"("src":{"ip":"10.0.0.1","port":40000,"workload":"web-1","segments":["shop-web"],)"
        R"("labels":{"app":"shop","role":"web"},"identity":4},)"
        R"("dst":{"ip":"2001:db8::7","port":5432,"workload":"db-1","segments":["shop-db","prod"]},)"
        R"("protocol":"tcp","process":{"pid":77,"ppid":1,"exe":"/usr/bin/psql","comm":"psql","uid":0,)"
        R"("unit":"shop-web.service"},"count":1,"community_id":"1:abc="})");
}

TEST(Json, ZeroBytesAreWrittenAndUnknownBytesAreNot)
{
    v1::Record record;
    record.set_bytes_in(0);
    record.set_duration_us(5);
    EXPECT_EQ(to_json(record), R"({"bytes_in":0,"duration_us":5})");
}

TEST(Json, GapSaysHowManyWhereAndWhich)
{
    v1::Record record;
    record.set_kind(v1::Record::GAP);
    record.mutable_lost()->set_count(12);
    record.mutable_lost()->set_where("spool");
    record.mutable_lost()->set_from_seq(3);
    record.mutable_lost()->set_to_seq(14);
    EXPECT_EQ(to_json(record), R"({"kind":"gap","lost":{"count":12,"where":"spool","from_seq":3,"to_seq":14}})");
}

TEST(Json, OtherProtocolsAreNumbers)
{
    v1::Record record;
    record.set_protocol(132);
    EXPECT_EQ(to_json(record), R"({"protocol":132})");
    EXPECT_EQ(from_json(R"({"protocol":132})")->protocol(), 132U);
    EXPECT_EQ(from_json(R"({"protocol":"icmpv6"})")->protocol(), 58U);
}

TEST(Json, NothingOfARecordCanBreakOutOfItsString)
{
    v1::Record record;
    record.mutable_process()->set_comm("a\"b\\c\n\x1b[2J\x7f\xc2\x9b\xe2\x80\xae");
    EXPECT_EQ(to_json(record), R"({"process":{"comm":"a\"b\\c\u000a\u001b[2J\u007f\u009b\u202e"}})");
    EXPECT_EQ(from_json(to_json(record))->process().comm(), record.process().comm());
}

TEST(Json, BytesThatAreNoUtf8BecomeReplacementCharacters)
{
    v1::Record record;
    record.mutable_process()->set_comm("a\xff\xc3(\xed\xa0\x80z");
    EXPECT_EQ(to_json(record),
              "{\"process\":{\"comm\":\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"}}");
}

TEST(Json, AddressesOfNeitherFamilyAreLeftOut)
{
    v1::Record record;
    record.mutable_src()->set_ip("abc");
    EXPECT_EQ(to_json(record), R"({"src":{}})");
}

TEST(Json, RoundTripKeepsEveryField)
{
    auto record = denied_attempt();
    record.set_bytes_out(1);
    record.set_bytes_in(std::numeric_limits<std::uint64_t>::max());
    record.set_packets_out(3);
    record.set_packets_in(4);
    record.set_duration_us(0);
    record.mutable_tcp()->set_state("established");
    record.mutable_tcp()->set_rtt_us(200);
    record.mutable_tcp()->set_retransmits(2);
    auto& process = *record.mutable_process();
    process.set_cmdline("psql -h db");
    process.set_user("root");
    process.set_login_uid(4294967295U);
    process.set_cgroup("/system.slice/shop-web.service");
    process.set_container("c0ffee");
    process.set_parent_exe("/bin/sh");
    record.mutable_ports()->set_lowest(22);
    record.mutable_ports()->set_highest(65001);
    record.mutable_lost()->set_where("kernel");
    record.mutable_audit()->set_actor("alice");
    record.mutable_audit()->set_action("policy.apply");
    record.mutable_audit()->set_object("version 3");
    record.mutable_audit()->set_message("CHG-1");
    const auto back = from_json(to_json(record));
    ASSERT_TRUE(back) << back.error().message;
    MessageDifferencer differencer;
    std::string difference;
    differencer.ReportDifferencesToString(&difference);
    EXPECT_TRUE(differencer.Compare(record, *back)) << difference;
}

TEST(Json, UnknownFieldsAreIgnored)
{
    const auto record =
        from_json(R"({"host":"h","of_a_later_version":{"a":[1,{}]},"src":{"ip":"10.0.0.1","mac":"x"}})");
    ASSERT_TRUE(record);
    EXPECT_EQ(record->host(), "h");
}

TEST(Json, MalformedLinesAreErrors)
{
    for (const char* line : {"",
                             " ",
                             "{",
                             "null",
                             "[]",
                             "{} x",
                             R"({"host":})",
                             R"({"host":1})",
                             R"({"seq":-1})",
                             R"({"seq":1.5})",
                             R"({"seq":99999999999999999999})",
                             R"({"time":"yesterday"})",
                             R"({"verdict":"maybe"})",
                             R"({"flow_id":"abc"})",
                             R"({"flow_id":"zz"})",
                             R"({"src":"10.0.0.1"})",
                             R"({"src":{"ip":"10.0.0.999"}})",
                             R"({"src":{"port":65536}})",
                             R"({"src":{"segments":"a"}})",
                             R"({"src":{"segments":[1]}})",
                             R"({"src":{"labels":{"a":1}}})",
                             R"({"protocol":"quic"})",
                             R"({"protocol":256})",
                             R"({"process":{"pid":4294967296}})",
                             "{\"host\":\"\xff\"}"}) {
        const auto record = from_json(line);
        ASSERT_FALSE(record) << line;
        EXPECT_EQ(record.error().kind, ErrorKind::invalid) << line;
    }
}

TEST(Json, ErrorNamesTheField)
{
    EXPECT_THAT(from_json(R"({"src":{"port":70000}})").error().message, HasSubstr("src.port"));
}

TEST(Json, DepthAndLengthAreBounded)
{
    std::string deep = R"({"x":)" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
    EXPECT_THAT(from_json(deep).error().message, HasSubstr("deep"));
    EXPECT_THAT(from_json("{\"host\":\"" + std::string(2U << 20, 'a') + "\"}").error().message, HasSubstr("at most"));
}

RC_GTEST_PROP(Json, AnyBytesInAnyStringGiveOneValidLine, (const std::string& bytes))
{
    v1::Record record;
    record.set_host(bytes);
    (*record.mutable_src()->mutable_labels())[bytes] = bytes;
    record.mutable_dst()->add_segments(bytes);
    const auto line = to_json(record);
    RC_ASSERT(line.find('\n') == std::string::npos);
    RC_ASSERT(nlohmann::json::accept(line));
    RC_ASSERT(from_json(line).has_value());
}

} // namespace
} // namespace bulkhead::record
