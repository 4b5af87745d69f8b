// SPDX-License-Identifier: Apache-2.0
#include "agent/local/local_server.h"
#include "agent/local/policy_words.h"
#include "agent/local/record_query.h"
#include "local.grpc.pb.h"
#include "tests/harness/temp_dir.h"
#include "tests/unit/agent/memory_spool.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>

namespace bulkhead::agent {
namespace {

using test::MemorySpool;
using test::TempDir;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::Record violation(bool denied)
{
    v1::Record record;
    record.set_kind(v1::Record::VIOLATION);
    record.set_verdict(denied ? v1::Record::DENIED : v1::Record::WOULD_DENY);
    record.set_time_us(1);
    return record;
}

void fill(MemorySpool& spool, int count)
{
    for (int i = 0; i < count; ++i)
        ASSERT_TRUE(spool.append(violation(i % 2 == 0)));
}

std::vector<std::uint64_t> answers(const v1::RecordQuery& query, Spool& spool)
{
    std::vector<std::uint64_t> seqs;
    const auto done = query_records(
        query, spool,
        [&](const v1::RecordBatch& batch) {
            for (const auto& record : batch.records())
                seqs.push_back(record.seq());
            return true;
        },
        [] { return false; });
    EXPECT_TRUE(done) << done.error().message;
    return seqs;
}

TEST(RecordQuery, AnswersHistoryOldestFirst)
{
    MemorySpool spool;
    spool.first = 100; // the oldest are gone
    fill(spool, 5);
    EXPECT_THAT(answers({}, spool), ElementsAre(100, 101, 102, 103, 104));
}

TEST(RecordQuery, FiltersAndTakesTheNewest)
{
    MemorySpool spool;
    fill(spool, 10);
    v1::RecordQuery query;
    query.mutable_filter()->add_verdicts(v1::Record::DENIED);
    EXPECT_THAT(answers(query, spool), ElementsAre(1, 3, 5, 7, 9));
    query.set_last(2);
    EXPECT_THAT(answers(query, spool), ElementsAre(7, 9));
}

TEST(RecordQuery, LongHistoriesComeWhole)
{
    MemorySpool spool;
    fill(spool, 2500);
    EXPECT_EQ(answers({}, spool).size(), 2500U);
    v1::RecordQuery newest;
    newest.set_last(2100);
    const auto seqs = answers(newest, spool);
    ASSERT_EQ(seqs.size(), 2100U);
    EXPECT_EQ(seqs.front(), 401U);
    EXPECT_EQ(seqs.back(), 2500U);
}

// However many are asked for, an agent holds no more of them than it reads at once.
TEST(RecordQuery, WhatIsAskedForIsSentBeforeAllOfItIsRead)
{
    MemorySpool spool;
    fill(spool, 2500);
    v1::RecordQuery query;
    query.set_last(2400);
    std::vector<std::size_t> reads;
    const auto done = query_records(
        query, spool,
        [&](const v1::RecordBatch&) {
            reads.push_back(spool.reads);
            return true;
        },
        [] { return false; });
    EXPECT_TRUE(done);
    ASSERT_FALSE(reads.empty());
    EXPECT_LT(reads.front(), reads.back());
}

TEST(RecordQuery, AnEmptySpoolAnswersNothing)
{
    MemorySpool spool;
    EXPECT_TRUE(answers({}, spool).empty());
}

TEST(RecordQuery, AWrongSelectorIsAnError)
{
    MemorySpool spool;
    v1::RecordQuery query;
    query.mutable_filter()->add_from("=");
    EXPECT_FALSE(query_records(
        query, spool, [](const auto&) { return true; }, [] { return false; }));
}

TEST(PolicyWords, SayDefaultsAndRulesInOrderOfPrecedence)
{
    PolicyView view;
    view.policy.segments = {"web"};
    view.policy.defaults[0][1] = {policy::Action::deny, "web"};
    view.addresses[*IpAddress::parse("192.0.2.1")] = {7, "api-1"};
    policy::HostRule allow;
    allow.id = "web/in";
    allow.direction = policy::Direction::inbound;
    allow.peers.identities = {7};
    allow.services = {{policy::Protocol::tcp, {80, 80}}, {policy::Protocol::udp, {}}};
    allow.process_class = 1;
    allow.where = "shop.yaml:7";
    view.policy.processes = {{"nginx.service", {}, {}, {}, {}}};
    policy::HostRule ssh = allow;
    ssh.id = "failsafe/ssh";
    ssh.action = policy::HostAction::failsafe;
    ssh.peers = {};
    ssh.peers.any = true;
    ssh.process_class = 0;
    ssh.planes = policy::both_planes;
    ssh.where.clear();
    view.policy.rules = {allow, ssh};
    const auto lines = describe(view);
    EXPECT_THAT(lines, Contains("active inbound default: deny (segment web)"));
    EXPECT_THAT(lines, Contains("shadow outbound default: not judged"));
    EXPECT_THAT(lines[5], HasSubstr("failsafe inbound from any : tcp/80,udp/0-65535 [active+shadow] failsafe/ssh"));
    EXPECT_EQ(lines[6],
              "allow inbound from api-1 : tcp/80,udp/0-65535 process unit=nginx.service [active+shadow] web/in (shop.yaml:7)");
}

class LocalServerTest : public ::testing::Test {
protected:
    Result<std::unique_ptr<LocalServer>> serve()
    {
        return serve_local(socket,
                           {[] {
                                v1::LocalStatus status;
                                status.set_hostname("web-1");
                                return std::optional(status);
                            },
                            [] { return std::shared_ptr<const PolicyView>(); },
                            [](const v1::LocalQuarantine& wish) -> std::optional<Result<v1::LocalStatus>> {
                                if (!wish.on() && !wish.force())
                                    return fail(ErrorKind::refused, "the controller holds it");
                                v1::LocalStatus status;
                                status.mutable_standing()->set_quarantined(wish.on());
                                return status;
                            }},
                           spool);
    }
    std::unique_ptr<v1::Local::Stub> stub()
    {
        return v1::Local::NewStub(grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials()));
    }

    TempDir dir;
    std::string socket = dir / "run/agent.sock";
    MemorySpool spool;
};

TEST_F(LocalServerTest, AnswersOnASocketForItsOwnerAlone)
{
    const auto server = serve();
    ASSERT_TRUE(server) << server.error().message;
    struct stat found {};
    ASSERT_EQ(::stat(socket.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777U, 0600U);
    grpc::ClientContext context;
    v1::LocalStatus status;
    ASSERT_TRUE(stub()->GetStatus(&context, {}, &status).ok());
    EXPECT_EQ(status.hostname(), "web-1");
    grpc::ClientContext second;
    v1::LocalPolicy policy;
    EXPECT_TRUE(stub()->GetPolicy(&second, {}, &policy).ok());
}

TEST_F(LocalServerTest, ALiveSocketIsRefusedAndAStaleOneReplaced)
{
    auto first = serve();
    ASSERT_TRUE(first);
    const auto second = serve();
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, ErrorKind::refused);
    grpc::ClientContext context;
    v1::LocalStatus status;
    EXPECT_TRUE(stub()->GetStatus(&context, {}, &status).ok()); // and the first one still answers
    first->reset();

    const int stale = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(stale, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::close(stale);
    EXPECT_TRUE(serve());
}

TEST_F(LocalServerTest, SomethingElseAtThePathIsLeftAlone)
{
    dir.file("run/agent.sock", "precious");
    EXPECT_FALSE(serve());
    EXPECT_TRUE(std::filesystem::is_regular_file(socket));
}

TEST_F(LocalServerTest, AFollowerSeesHistoryThenWhatComesAndEndsWithTheServer)
{
    fill(spool, 2);
    auto server = serve();
    ASSERT_TRUE(server);
    grpc::ClientContext context;
    v1::RecordQuery query;
    query.set_follow(true);
    const auto client = stub();
    const auto reader = client->QueryRecords(&context, query);
    std::vector<std::uint64_t> seqs;
    v1::RecordBatch batch;
    while (seqs.size() < 3 && reader->Read(&batch)) {
        for (const auto& record : batch.records())
            seqs.push_back(record.seq());
        if (seqs.size() == 2)
            fill(spool, 1);
    }
    EXPECT_THAT(seqs, ElementsAre(1, 2, 3));
    std::thread stopper([&] { server->reset(); });
    while (reader->Read(&batch)) {
    }
    static_cast<void>(reader->Finish());
    stopper.join();
}

TEST_F(LocalServerTest, SetsTheQuarantineOrSaysWhyNot)
{
    const auto server = serve();
    ASSERT_TRUE(server);
    v1::LocalQuarantine wish;
    wish.set_on(true);
    v1::LocalStatus status;
    grpc::ClientContext on, off;
    ASSERT_TRUE(stub()->SetQuarantine(&on, wish, &status).ok());
    EXPECT_TRUE(status.standing().quarantined());
    wish.set_on(false);
    const auto refused = stub()->SetQuarantine(&off, wish, &status);
    EXPECT_EQ(refused.error_code(), grpc::StatusCode::ABORTED);
    EXPECT_EQ(refused.error_message(), "the controller holds it");
}

} // namespace
} // namespace bulkhead::agent
