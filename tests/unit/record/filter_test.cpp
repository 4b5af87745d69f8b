// SPDX-License-Identifier: Apache-2.0
#include "common/record/filter.h"
#include "sample.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace bulkhead::record
{
namespace
{

bool matches(const v1::RecordQuery& query, const v1::Record& record)
{
    const auto matcher = make_matcher(query);
    if (!matcher) {
        ADD_FAILURE() << matcher.error().message;
        return false;
    }
    return (*matcher)->matches(record);
}

v1::RecordQuery query(const std::function<void(v1::RecordFilter&)>& fill)
{
    v1::RecordQuery result;
    fill(*result.mutable_filter());
    return result;
}

bool from_matches(const std::string& selector)
{
    return matches(query([&](auto& f) { f.add_from(selector); }), denied_attempt());
}

bool process_matches(const std::string& pattern)
{
    return matches(query([&](auto& f) { f.add_processes(pattern); }), denied_attempt());
}

TEST(Filter, EmptyTakesEverything)
{
    EXPECT_TRUE(matches({}, denied_attempt()));
    EXPECT_TRUE(matches({}, v1::Record()));
}

TEST(Filter, SelectorsOfEveryKind)
{
    for (const char* yes : {"any", "10.0.0.1", "::ffff:10.0.0.1", "10.0.0.0/24", "0.0.0.0/0", "web-1", "shop-web",
                            "role=web", "app=shop,role=web", "app=*"})
        EXPECT_TRUE(from_matches(yes)) << yes;
    for (const char* no : {"10.0.0.2", "10.0.1.0/24", "::/0", "2001:db8::7", "db-1", "shop-db", "shop", "role=db",
                           "app=shop,role=db", "env=*", "role="})
        EXPECT_FALSE(from_matches(no)) << no;
    EXPECT_TRUE(matches(query([](auto& f) { f.add_to("prod"); }), denied_attempt()));
    EXPECT_TRUE(matches(query([](auto& f) { f.add_to("2001:db8::/32"); }), denied_attempt()));
}

TEST(Filter, BadSelectorsAreUsageErrors)
{
    for (const char* bad :
         {"", "10.0.0.1/24", "10.0.0.0/33", "10.0.0.300", "2001:db8::g", "=x", "a=b,", "a=b,c", "a=1,a=2"}) {
        const auto matcher = make_matcher(query([&](auto& f) { f.add_to(bad); }));
        ASSERT_FALSE(matcher) << bad;
        EXPECT_EQ(matcher.error().kind, ErrorKind::usage) << bad;
        EXPECT_FALSE(matcher.error().mend.empty()) << bad;
    }
}

TEST(Filter, SameFieldIsOrDifferentFieldsAreAnd)
{
    const auto record = denied_attempt();
    EXPECT_TRUE(matches(query([](auto& f) {
                            f.add_ports(22);
                            f.add_ports(5432);
                        }),
                        record));
    EXPECT_TRUE(matches(query([](auto& f) {
                            f.add_from("nobody");
                            f.add_from("web-1");
                            f.add_ports(5432);
                        }),
                        record));
    EXPECT_FALSE(matches(query([](auto& f) {
                             f.add_from("web-1");
                             f.add_ports(22);
                         }),
                         record));
}

TEST(Filter, PortIsTheDestinations)
{
    EXPECT_FALSE(matches(query([](auto& f) { f.add_ports(40000); }), denied_attempt()));
}

TEST(Filter, EveryFieldTakesAndRefuses)
{
    using R = v1::Record;
    const auto record = denied_attempt();
    EXPECT_TRUE(matches(query([](auto& f) { f.add_verdicts(R::DENIED); }), record));
    EXPECT_FALSE(matches(query([](auto& f) { f.add_verdicts(R::WOULD_DENY); }), record));
    EXPECT_TRUE(matches(query([](auto& f) { f.add_directions(R::OUTBOUND); }), record));
    EXPECT_FALSE(matches(query([](auto& f) { f.add_directions(R::INBOUND); }), record));
    EXPECT_TRUE(matches(query([](auto& f) { f.add_kinds(R::VIOLATION); }), record));
    EXPECT_FALSE(matches(query([](auto& f) { f.add_kinds(R::FLOW); }), record));
    EXPECT_TRUE(matches(query([](auto& f) { f.add_protocols(6); }), record));
    EXPECT_FALSE(matches(query([](auto& f) { f.add_protocols(17); }), record));
    EXPECT_TRUE(matches(query([](auto& f) { f.add_hosts("web-1"); }), record));
    EXPECT_TRUE(matches(query([](auto& f) { f.add_hosts("web-*"); }), record));
    EXPECT_FALSE(matches(query([](auto& f) { f.add_hosts("web"); }), record));
    EXPECT_TRUE(matches(query([](auto& f) { f.add_units("shop-web.service"); }), record));
    EXPECT_TRUE(matches(query([](auto& f) { f.add_units("shop-*"); }), record));
    EXPECT_FALSE(matches(query([](auto& f) { f.add_units("shop-web"); }), record));
}

TEST(Filter, ProcessPatternWithoutSlashIsAboutTheName)
{
    EXPECT_TRUE(process_matches("psql"));
    EXPECT_TRUE(process_matches("ps*"));
    EXPECT_TRUE(process_matches("/usr/bin/psql"));
    EXPECT_TRUE(process_matches("/usr/*"));
    EXPECT_FALSE(process_matches("bin"));
    EXPECT_FALSE(process_matches("/bin/psql"));
}

TEST(Filter, RecordWithoutTheFieldDoesNotMatchIt)
{
    v1::Record bare;
    EXPECT_FALSE(matches(query([](auto& f) { f.add_ports(22); }), bare));
    EXPECT_FALSE(matches(query([](auto& f) { f.add_from("0.0.0.0/0"); }), bare));
    EXPECT_FALSE(matches(query([](auto& f) { f.add_processes("sshd"); }), bare));
}

TEST(Filter, ExclusionNeedsAllItsConditionsAndAnyExclusionHides)
{
    auto q = query([](auto&) {});
    auto& exclude = *q.add_exclude();
    exclude.add_ports(5432);
    exclude.add_from("someone-else");
    EXPECT_TRUE(matches(q, denied_attempt()));
    q.add_exclude()->add_to("db-1");
    EXPECT_FALSE(matches(q, denied_attempt()));
}

TEST(Filter, ExclusionOfEverythingIsAMistake)
{
    v1::RecordQuery q;
    q.add_exclude();
    ASSERT_FALSE(make_matcher(q));
    EXPECT_EQ(make_matcher(q).error().kind, ErrorKind::usage);
}

TEST(Filter, TimesIncludeSinceAndLeaveOutUntil)
{
    const auto record = denied_attempt();
    v1::RecordQuery q;
    q.set_since_us(record.time_us());
    EXPECT_TRUE(matches(q, record));
    q.set_since_us(record.time_us() + 1);
    EXPECT_FALSE(matches(q, record));
    q.clear_since_us();
    q.set_until_us(record.time_us());
    EXPECT_FALSE(matches(q, record));
    q.set_until_us(record.time_us() + 1);
    EXPECT_TRUE(matches(q, record));
}

TEST(Filter, NumbersOutOfRangeAreUsageErrors)
{
    EXPECT_FALSE(make_matcher(query([](auto& f) { f.add_ports(65536); })));
    EXPECT_FALSE(make_matcher(query([](auto& f) { f.add_protocols(256); })));
}

TEST(Filter, LossIsNotHiddenByFiltersOnFieldsThatItLacks)
{
    v1::Record gap;
    gap.set_kind(v1::Record::GAP);
    gap.set_host("web-1");
    auto q = query([](auto& f) {
        f.add_kinds(v1::Record::VIOLATION);
        f.add_kinds(v1::Record::GAP);
        f.add_verdicts(v1::Record::DENIED);
        f.add_ports(22);
    });
    EXPECT_TRUE(matches(q, gap));
    q.mutable_filter()->add_hosts("db-1");
    EXPECT_FALSE(matches(q, gap)) << "it is known on which host";
    EXPECT_FALSE(matches(query([](auto& f) { f.add_verdicts(v1::Record::DENIED); }), gap)) << "nobody asked for gaps";
}

} // namespace
} // namespace bulkhead::record
