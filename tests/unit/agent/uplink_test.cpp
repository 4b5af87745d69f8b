// SPDX-License-Identifier: Apache-2.0
#include "agent/uplink/uplink.h"

#include "agent/state/atomic_file.h"
#include "agent/uplink/credentials.h"
#include "tests/harness/temp_dir.h"
#include "tests/unit/agent/fake_controller.h"
#include "tests/unit/agent/memory_spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <sys/stat.h>
#include <thread>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using test::FakeController;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;

class RecordingHost final : public UplinkHost {
public:
    v1::Hello hello() override
    {
        v1::Hello hello;
        hello.set_hostname("web-1");
        hello.set_generation(held);
        return hello;
    }
    v1::HostStatus status() override { return {}; }
    std::optional<v1::PolicyResult> on_update(const v1::PolicyUpdate& update) override
    {
        v1::PolicyResult result;
        result.set_generation(update.generation());
        result.set_enforced(true);
        held = update.generation();
        return result;
    }
    std::optional<v1::PolicyResult> on_confirm(const v1::Confirm& confirm) override
    {
        v1::PolicyResult result;
        result.set_generation(confirm.generation());
        result.set_policy_version(confirm.policy_version());
        result.set_enforced(true);
        return result;
    }
    void on_quarantine(const v1::QuarantineOrder& order) override
    {
        const std::lock_guard lock(mutex);
        orders.push_back(order);
    }
    void on_identity(const std::string& agent_id, const std::string& authority_pem, bool enrolled_now) override
    {
        const std::lock_guard lock(mutex);
        identity = agent_id;
        authority = authority_pem;
        enrolled = enrolled || enrolled_now;
    }
    void on_connected(bool) override {}
    void on_enrolment_refused(const Error& error) override
    {
        const std::lock_guard lock(mutex);
        refusal = error;
    }
    std::optional<Error> wait_for_refusal()
    {
        for (int i = 0; i < 500; ++i, std::this_thread::sleep_for(10ms))
            if (const std::lock_guard lock(mutex); refusal)
                return refusal;
        return std::nullopt;
    }

    std::atomic<std::uint64_t> held{0};
    std::mutex mutex;
    std::vector<v1::QuarantineOrder> orders;
    std::string identity, authority;
    bool enrolled = false;
    std::optional<Error> refusal;
};

class UplinkTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() { tls::require_tls13(); }

    std::unique_ptr<Uplink> start(const std::string& token)
    {
        auto uplink = start_uplink({controller.address(), dir.path(), "web-1", {{"role", "web"}}, token}, host, spool);
        EXPECT_TRUE(uplink) << uplink.error().message;
        return uplink ? std::move(*uplink) : nullptr;
    }
    void fill(int count)
    {
        for (int i = 0; i < count; ++i) {
            v1::Record record;
            record.set_agent_id("from-before-enrolment");
            ASSERT_TRUE(spool.append(record));
        }
    }

    test::TempDir dir;
    FakeController controller;
    RecordingHost host;
    test::MemorySpool spool;
};

TEST_F(UplinkTest, EnrolsOnceKeepsItsCertificateAndConnects)
{
    {
        const auto uplink = start(controller.token());
        ASSERT_TRUE(controller.wait([&] { return !controller.hellos.empty(); }));
        EXPECT_EQ(controller.enrolments.at(0).hostname(), "web-1");
        EXPECT_EQ(controller.enrolments.at(0).labels().at("role"), "web");
        EXPECT_EQ(host.identity, "agent-1");
        EXPECT_EQ(host.authority, controller.ca());
        EXPECT_TRUE(host.enrolled);
        struct stat found {};
        ASSERT_EQ(::stat((dir / "agent.pem").c_str(), &found), 0);
        EXPECT_EQ(found.st_mode & 0777U, 0600U);
    }
    const auto again = start(controller.token()); // the token is not used a second time
    ASSERT_TRUE(controller.wait([&] { return controller.hellos.size() == 2; }));
    EXPECT_EQ(controller.enrolments.size(), 1U);
    EXPECT_EQ(enrolled_agent_id(dir.path()), "agent-1");
}

TEST_F(UplinkTest, WithoutCertificateAndTokenThereIsNoStart)
{
    for (const char* token : {"", "nonsense", "bulkhead-join-1.x.y"}) {
        const auto uplink = start_uplink({controller.address(), dir.path(), "web-1", {}, token}, host, spool);
        ASSERT_FALSE(uplink) << token;
        EXPECT_EQ(uplink.error().kind, ErrorKind::invalid);
    }
}

TEST_F(UplinkTest, ARefusedTokenIsFinal)
{
    const auto token = controller.token();
    controller.secret = "another";
    const auto uplink = start(token);
    const auto refusal = host.wait_for_refusal();
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->kind, ErrorKind::refused);
    EXPECT_FALSE(enrolled_agent_id(dir.path()));
}

TEST_F(UplinkTest, AnotherControllerThanTheTokensIsRefusedBeforeItSeesTheSecret)
{
    const FakeController impostor;
    const auto uplink = start_uplink({impostor.address(), dir.path(), "web-1", {}, controller.token()}, host, spool);
    ASSERT_TRUE(uplink);
    const auto refusal = host.wait_for_refusal();
    ASSERT_TRUE(refusal);
    EXPECT_TRUE(impostor.enrolments.empty());
}

TEST_F(UplinkTest, AHostThatBootsBeforeItsControllerWaitsForIt)
{
    const auto token = controller.token();
    controller.stop();
    const auto uplink = start(token);
    std::this_thread::sleep_for(300ms);
    EXPECT_FALSE(uplink->connected());
    controller.start_again();
    EXPECT_TRUE(controller.wait([&] { return !controller.hellos.empty(); }));
}

TEST_F(UplinkTest, AnswersEveryUpdateAndSaysWhatItHoldsWhenItComesBack)
{
    for (const std::uint64_t generation : {5U, 6U}) {
        v1::PolicyUpdate update;
        update.set_generation(generation);
        controller.updates.push_back(update);
    }
    const auto uplink = start(controller.token());
    ASSERT_TRUE(controller.wait([&] { return controller.results.size() == 2; }));
    EXPECT_EQ(controller.results[1].generation(), 6U);
    EXPECT_TRUE(controller.results[1].enforced());
    controller.stop();
    controller.start_again();
    ASSERT_TRUE(controller.wait([&] { return controller.hellos.size() == 2; }));
    EXPECT_EQ(controller.hellos[0].generation(), 0U);
    EXPECT_EQ(controller.hellos[1].generation(), 6U);
}

TEST_F(UplinkTest, ReportsSoonWhenAsked)
{
    const auto uplink = start(controller.token());
    ASSERT_TRUE(controller.wait([&] { return !controller.hellos.empty(); }));
    for (int i = 0; i < 50; ++i) { // the session may still be coming up
        uplink->report_soon();
        std::this_thread::sleep_for(10ms);
    }
    EXPECT_TRUE(controller.wait([&] { return !controller.statuses.empty(); }));
}

TEST_F(UplinkTest, DeliversRecordsInOrderAsItsOwn)
{
    fill(1200);
    const auto uplink = start(controller.token());
    ASSERT_TRUE(controller.wait([&] { return controller.stored == 1200; }));
    std::vector<std::uint64_t> expected(1200);
    for (std::size_t i = 0; i < expected.size(); ++i)
        expected[i] = i + 1;
    EXPECT_EQ(controller.records, expected);
    EXPECT_THAT(controller.record_agents, ElementsAre("agent-1"));
    for (int i = 0; i < 200 && spool.acknowledged() != 1200; ++i)
        std::this_thread::sleep_for(10ms);
    EXPECT_EQ(spool.acknowledged(), 1200U);
}

TEST_F(UplinkTest, WhatWasNotAcknowledgedIsSentAgain)
{
    fill(1500);
    controller.fail_ingest_after = 1;
    const auto uplink = start(controller.token());
    ASSERT_TRUE(controller.wait([&] { return controller.stored == 1500; }));
    std::set<std::uint64_t> seen(controller.records.begin(), controller.records.end());
    EXPECT_EQ(seen.size(), 1500U);
}

TEST_F(UplinkTest, RecordsOfTheTimeWithoutAControllerComeLater)
{
    const auto uplink = start(controller.token());
    fill(10);
    ASSERT_TRUE(controller.wait([&] { return controller.stored == 10; }));
    controller.stop();
    fill(10);
    controller.start_again();
    EXPECT_TRUE(controller.wait([&] { return controller.stored == 20; }));
}

TEST_F(UplinkTest, RenewsItsCertificateInTimeAndConnectsWithTheNewOne)
{
    // Two thirds of this certificate's life are over: it began five minutes before its time, too.
    controller.grant_time = std::chrono::system_clock::now() - 10min;
    controller.lifetime = 11min;
    const auto uplink = start(controller.token());
    ASSERT_TRUE(controller.wait([&] { return controller.renewals == 1 && controller.hellos.size() >= 2; }));
    const auto credentials = load_credentials(dir.path());
    ASSERT_TRUE(credentials && *credentials);
    EXPECT_GT((*credentials)->not_after, std::chrono::system_clock::now() + 50min);
    EXPECT_EQ((*credentials)->agent_id, "agent-1");
}

TEST_F(UplinkTest, ARenewalBringsNoOtherAuthority)
{
    controller.grant_time = std::chrono::system_clock::now() - 10min;
    controller.lifetime = 11min;
    controller.ca_of_renewals = tls::make_authority(std::chrono::system_clock::now(), 1h)->certificate_pem;
    const auto uplink = start(controller.token());
    ASSERT_TRUE(controller.wait([&] { return controller.renewals == 1 && controller.hellos.size() >= 2; }));
    EXPECT_EQ((*load_credentials(dir.path()))->ca_pem, controller.ca());
}

TEST_F(UplinkTest, AnotherControllerThatRefusesDoesNotBecomeTheAuthority)
{
    const auto other = tls::make_authority(std::chrono::system_clock::now(), 1h)->certificate_pem;
    dir.file("ca.pem", other);
    const auto token = controller.token();
    controller.secret = "another-secret";
    const auto uplink = start(token);
    ASSERT_TRUE(host.wait_for_refusal());
    EXPECT_EQ(**read_file_if_there(dir / "ca.pem"), other);
    EXPECT_FALSE(std::filesystem::exists(dir / "ca.next.pem"));
}

TEST_F(UplinkTest, TheAuthorityBeforeIsKept)
{
    const auto other = tls::make_authority(std::chrono::system_clock::now(), 1h)->certificate_pem;
    dir.file("ca.pem", other);
    const auto uplink = start(controller.token());
    ASSERT_TRUE(controller.wait([&] { return !controller.hellos.empty(); }));
    EXPECT_EQ(**read_file_if_there(dir / "ca.pem"), controller.ca());
    EXPECT_EQ(**read_file_if_there(dir / "ca.previous.pem"), other);
}

TEST_F(UplinkTest, AnExpiredCertificateNeedsTheToken)
{
    controller.grant_time = std::chrono::system_clock::now() - 20min;
    controller.lifetime = 10min;
    {
        const auto uplink = start(controller.token());
        for (int i = 0; i < 500 && !enrolled_agent_id(dir.path()); ++i)
            std::this_thread::sleep_for(10ms);
    }
    controller.grant_time = std::chrono::system_clock::now();
    const auto uplink = start(controller.token());
    EXPECT_TRUE(controller.wait([&] { return !controller.hellos.empty(); }));
    EXPECT_EQ(controller.enrolments.size(), 2U);
}

TEST_F(UplinkTest, ADamagedCertificateGivesWayToATokenAndToNothingElse)
{
    dir.file("agent.pem", "rubbish");
    dir.file("ca.pem", "rubbish");
    EXPECT_FALSE(check_uplink({controller.address(), dir.path(), "web-1", {}, ""}));
    const auto uplink = start(controller.token());
    EXPECT_TRUE(controller.wait([&] { return !controller.hellos.empty(); }));
    EXPECT_EQ(enrolled_agent_id(dir.path()), "agent-1");
}

TEST_F(UplinkTest, EndsSoonWhateverTheControllerDoes)
{
    auto uplink = start(controller.token());
    ASSERT_TRUE(controller.wait([&] { return !controller.hellos.empty(); }));
    const auto begun = std::chrono::steady_clock::now();
    uplink.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);
}

} // namespace
} // namespace bulkhead::agent
