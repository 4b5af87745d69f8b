// SPDX-License-Identifier: Apache-2.0
#include "cli/output/record_line.h"
#include "cli_session.h"
#include "common/record/json.h"
#include "common/wire/wire.h"

#include <yaml-cpp/yaml.h>

#include <cstdlib>

namespace bulkhead::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

v1::Record attempt(v1::Record::Verdict verdict, std::uint32_t port)
{
    v1::Record record;
    record.set_time_us(1'795'225'439'000'123);
    record.set_kind(verdict == v1::Record::ALLOWED ? v1::Record::FLOW : v1::Record::VIOLATION);
    record.set_event(verdict == v1::Record::ALLOWED ? v1::Record::OPEN : v1::Record::DENY);
    record.set_host("web-1");
    record.set_direction(v1::Record::OUTBOUND);
    record.set_verdict(verdict);
    record.set_rule("shop-db/default-inbound");
    record.mutable_src()->set_ip(wire::to_wire(*IpAddress::parse("10.0.0.1")));
    record.mutable_src()->set_workload("web-1");
    record.mutable_dst()->set_ip(wire::to_wire(*IpAddress::parse("10.0.0.3")));
    record.mutable_dst()->set_port(port);
    record.mutable_dst()->set_workload("db-1");
    record.set_protocol(6);
    record.mutable_process()->set_pid(77);
    record.mutable_process()->set_exe("/usr/bin/curl");
    record.mutable_process()->set_unit("nginx.service");
    return record;
}

v1::Record gap()
{
    v1::Record record;
    record.set_time_us(1'795'225'440'000'000);
    record.set_kind(v1::Record::GAP);
    record.set_host("web-1");
    record.mutable_lost()->set_count(1200);
    record.mutable_lost()->set_where("kernel");
    return record;
}

class Records : public CliSession {
protected:
    void answer_with(const std::vector<v1::Record>& records)
    {
        admin.batches.clear();
        for (const auto& record : records)
            *admin.batches.emplace_back().add_records() = record;
        agent.batches = admin.batches;
    }
    static std::string lines(const std::vector<v1::Record>& records)
    {
        std::string text;
        for (const auto& record : records)
            text += record::to_json(record) + "\n";
        return text;
    }
};

TEST_F(Records, TableHasOneLineARecordWithEverythingThatMatters)
{
    answer_with({attempt(v1::Record::DENIED, 5432)});
    const auto outcome = run({"violations"});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.out, "2026-11-21T01:43:59.000123Z DENIED     out web-1 10.0.0.1 -> db-1 10.0.0.3:5432/tcp  "
                           "curl[77] nginx.service  shop-db/default-inbound\n");
    EXPECT_THAT(outcome.err, IsEmpty());
}

TEST_F(Records, JsonIsOneObjectALineThatCanBeReadBack)
{
    answer_with({attempt(v1::Record::DENIED, 22), attempt(v1::Record::ALLOWED, 80)});
    const auto outcome = run({"flows", "-o", "json"});
    std::istringstream in(outcome.out);
    std::string line;
    std::vector<std::uint32_t> ports;
    while (std::getline(in, line))
        ports.push_back(record::from_json(line).value().dst().port());
    EXPECT_THAT(ports, testing::ElementsAre(22U, 80U));
}

TEST_F(Records, YamlIsOneDocumentARecord)
{
    answer_with({attempt(v1::Record::DENIED, 22), attempt(v1::Record::ALLOWED, 80)});
    const auto documents = YAML::LoadAll(run({"flows", "-o", "yaml"}).out);
    ASSERT_EQ(documents.size(), 2U);
    EXPECT_EQ(documents[1]["dst"]["port"].as<int>(), 80);
}

TEST_F(Records, ColourOnlyOnATerminalAndNeverWithNoColor)
{
    answer_with({attempt(v1::Record::DENIED, 22)});
    EXPECT_THAT(run({"violations"}).out, Not(HasSubstr("\x1b")));
    ::unsetenv("NO_COLOR");
    EXPECT_THAT(run({"violations"}, "", true).out, HasSubstr("\x1b[31m"));
    EXPECT_THAT(run({"violations", "-o", "json"}, "", true).out, Not(HasSubstr("\x1b")));
    ::setenv("NO_COLOR", "1", 1);
    EXPECT_THAT(run({"violations"}, "", true).out, Not(HasSubstr("\x1b")));
    ::unsetenv("NO_COLOR");
}

TEST_F(Records, NothingFromARecordReachesTheTerminalRaw)
{
    const std::string evil = "\x1b]0;owned\x07\x1b[2J\r\xc2\x9b"
                             "1m\xe2\x80\xae\x7f\nDENIED";
    auto record = attempt(v1::Record::DENIED, 22);
    record.set_host(evil);
    record.set_rule(evil);
    record.mutable_src()->set_workload(evil);
    record.mutable_process()->set_exe("/" + evil);
    record.mutable_process()->set_unit(evil);
    auto lost = gap();
    lost.set_host(evil);
    lost.mutable_lost()->set_where(evil);
    answer_with({record, lost});
    for (const char* format : {"table", "json", "yaml"}) {
        for (const char* command : {"flows", "violations"}) {
            const auto outcome = run({command, "-o", format}, "", false);
            for (const auto& text : {outcome.out, outcome.err}) {
                for (const char* bad : {"\x1b", "\x07", "\r", "\xc2\x9b", "\xe2\x80\xae", "\x7f"})
                    EXPECT_THAT(text, Not(HasSubstr(bad))) << command << " " << format;
            }
        }
    }
    const auto out = run({"violations"}).out;
    EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1);
}

TEST_F(Records, LossIsARowOfFlowsAndANoteBesideViolations)
{
    answer_with({attempt(v1::Record::DENIED, 22), gap()});
    EXPECT_THAT(run({"flows"}).out, HasSubstr("1200 records lost in the kernel"));
    const auto outcome = run({"violations", "-o", "json"});
    EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1);
    EXPECT_THAT(outcome.err, HasSubstr("1200 records lost in the kernel"));
}

TEST_F(Records, LocalAsksTheAgent)
{
    agent.batches.emplace_back();
    *agent.batches.back().add_records() = attempt(v1::Record::DENIED, 22);
    EXPECT_THAT(run({"--local", "violations"}).out, HasSubstr("DENIED"));
    EXPECT_EQ(admin.calls, 0);
}

TEST_F(Records, QueryCarriesTheFilters)
{
    (void)run({"violations", "-f",          "--last",    "7",       "--from", "app=shop", "--from",      "web-1",
               "--to",       "10.0.0.0/24", "--host",    "h",       "--port", "22",       "--port",      "23",
               "--protocol", "udp",         "--process", "*/ssh",   "--unit", "u",        "--direction", "inbound",
               "--verdict",  "would-deny",  "--not",     "port=53", "--not",  "from=k=v"});
    EXPECT_TRUE(admin.query.follow());
    EXPECT_EQ(admin.query.last(), 7U);
    const auto& filter = admin.query.filter();
    EXPECT_THAT(filter.from(), testing::ElementsAre("app=shop", "web-1"));
    EXPECT_THAT(filter.to(), testing::ElementsAre("10.0.0.0/24"));
    EXPECT_THAT(filter.ports(), testing::ElementsAre(22U, 23U));
    EXPECT_THAT(filter.protocols(), testing::ElementsAre(17U));
    EXPECT_THAT(filter.verdicts(), testing::ElementsAre(v1::Record::WOULD_DENY));
    ASSERT_EQ(admin.query.exclude_size(), 2);
    EXPECT_EQ(admin.query.exclude(0).ports(0), 53U);
    EXPECT_EQ(admin.query.exclude(1).from(0), "k=v");
}

TEST_F(Records, BadFilterIsNoticedBeforeAnybodyIsAsked)
{
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"flows", "--from", "10.0.0.300"},
                                               {"flows", "--since", "yesterday"},
                                               {"flows", "--since", "5m", "--until", "10m"},
                                               {"flows", "--verdict", "no"},
                                               {"flows", "--protocol", "quic"},
                                               {"flows", "--direction", "up"},
                                               {"flows", "--not", "port"},
                                               {"flows", "--not", "port=x"},
                                               {"flows", "--not", "color=red"},
                                               {"violations", "--verdict", "allowed"}}) {
        const auto outcome = run(arguments);
        EXPECT_EQ(outcome.code, 2) << testing::PrintToString(arguments);
        EXPECT_THAT(outcome.err, HasSubstr("mend:")) << testing::PrintToString(arguments);
    }
    EXPECT_EQ(admin.calls, 0);
}

TEST_F(Records, InputFileNeedsNoPeerAndTakesTheSameFilters)
{
    unreachable = Error{ErrorKind::unreachable, "must not be asked", ""};
    const auto path = write("records.jsonl", lines({attempt(v1::Record::DENIED, 22), attempt(v1::Record::ALLOWED, 80),
                                                    attempt(v1::Record::WOULD_DENY, 443)}));
    const auto count = [](const Outcome& outcome) { return std::count(outcome.out.begin(), outcome.out.end(), '\n'); };
    EXPECT_EQ(count(run({"flows", "--input-file", path})), 3);
    EXPECT_EQ(count(run({"violations", "--input-file", path})), 2);
    EXPECT_EQ(count(run({"flows", "--input-file", path, "--port", "80"})), 1);
    EXPECT_EQ(count(run({"flows", "--input-file", path, "--not", "verdict=allowed"})), 2);
    const auto last = run({"flows", "--input-file", path, "--last", "1"});
    EXPECT_EQ(count(last), 1);
    EXPECT_THAT(last.out, HasSubstr(":443/"));
}

TEST_F(Records, InputFromStdinSaysWhichLineIsBad)
{
    const auto good = run({"flows", "--input-file", "-"}, lines({attempt(v1::Record::DENIED, 22)}) + "\n");
    EXPECT_EQ(good.code, 0);
    EXPECT_THAT(good.out, HasSubstr(":22/"));
    const auto bad = run({"flows", "--input-file", "-"}, lines({attempt(v1::Record::DENIED, 22)}) + "{nonsense\n");
    EXPECT_EQ(bad.code, 3);
    EXPECT_THAT(bad.err, HasSubstr("-:2"));
    EXPECT_EQ(run({"flows", "--input-file", "/nonexistent"}).code, 1);
}

TEST_F(Records, ClosedStdoutEndsQuietly)
{
    // A stream that took nothing more, like a pipe whose reader went.
    class Closed final : public std::streambuf {};
    Closed closed;
    std::ostream out(&closed);
    std::ostringstream err;
    std::istringstream in(lines({attempt(v1::Record::DENIED, 22), attempt(v1::Record::DENIED, 23)}));
    const char* argv[] = {"bulkheadctl", "flows", "--input-file", "-"};
    EXPECT_EQ(run_command_line(4, argv, {in, out, err}), 0);
    EXPECT_THAT(err.str(), IsEmpty());
}

TEST(RecordLine, Ipv6PortIsNotMistakenForAddress)
{
    auto record = attempt(v1::Record::ALLOWED, 443);
    record.mutable_dst()->set_ip(wire::to_wire(*IpAddress::parse("2001:db8::1")));
    EXPECT_THAT(record_line(record, false), HasSubstr("2001:db8::1 port 443/tcp"));
}

TEST(RecordLine, WouldDenyNamesTheShadowRule)
{
    auto record = attempt(v1::Record::WOULD_DENY, 443);
    record.set_shadow_rule("shop-db/no-web");
    EXPECT_THAT(record_line(record, false), HasSubstr("shop-db/no-web"));
    EXPECT_THAT(record_line(record, false), HasSubstr("WOULD-DENY"));
}

} // namespace
} // namespace bulkhead::cli
