// SPDX-License-Identifier: Apache-2.0
#include "controller/enrol/credentials.h"

#include "common/tls/tls.h"
#include "tests/unit/controller/temporary_dir.h"

#include <sys/stat.h>

#include <fstream>

namespace bulkhead::controller {
namespace {

using std::chrono::hours;

class CredentialsTest : public testing::Test {
protected:
    void SetUp() override
    {
        auto opened = StateDir::open(dir.file("state"));
        ASSERT_TRUE(opened) << opened.error().message;
        state.emplace(std::move(*opened));
    }
    Result<Credentials> open() { return Credentials::open(*state, clock, {"host.example.org"}, {"192.0.2.1"}); }
    std::string content(const std::string& name) { return state->read(name)->value_or(""); }
    mode_t mode(const std::string& name)
    {
        struct stat status {};
        EXPECT_EQ(::stat(state->path(name).c_str(), &status), 0) << name;
        return status.st_mode & 07777;
    }

    TemporaryDir dir;
    ShiftedClock clock;
    std::optional<StateDir> state;
};

TEST_F(CredentialsTest, SecretsAreTheOwnersAlone)
{
    auto credentials = open();
    ASSERT_TRUE(credentials) << credentials.error().message;
    ASSERT_TRUE(credentials->provide_admin("127.0.0.1:7443"));
    EXPECT_EQ(mode(""), 0700U);
    for (const auto* name : {"ca.pem", "controller.key", "admin.yaml"})
        EXPECT_EQ(mode(name), 0600U) << name;
    for (const auto* name : {"ca.crt", "controller.crt"})
        EXPECT_EQ(content(name).find("PRIVATE"), std::string::npos) << name;
    EXPECT_EQ(credentials->authority().certificate_pem.find("PRIVATE"), std::string::npos) << "it is sent to agents";
}

TEST_F(CredentialsTest, ARestartKeepsEverything)
{
    ASSERT_TRUE(open()->provide_admin("127.0.0.1:1"));
    const std::vector<std::string> names{"ca.pem", "ca.crt", "controller.key", "controller.crt", "admin.yaml"};
    std::vector<std::string> before;
    for (const auto& name : names)
        before.push_back(content(name));
    auto again = open();
    ASSERT_TRUE(again);
    EXPECT_FALSE(*again->provide_admin("127.0.0.1:1"));
    for (std::size_t i = 0; i < names.size(); ++i)
        EXPECT_EQ(content(names[i]), before[i]) << names[i];
}

TEST_F(CredentialsTest, WhatACrashLeftOutIsMadeUpFor)
{
    for (const std::vector<std::string>& gone : {std::vector<std::string>{"controller.crt"},
                                                 {"ca.crt"},
                                                 {"admin.yaml"},
                                                 {"controller.crt", "controller.key"}}) {
        ASSERT_TRUE(open()->provide_admin("127.0.0.1:1"));
        const auto authority = content("ca.pem");
        for (const auto& name : gone)
            ASSERT_EQ(::unlink(state->path(name).c_str()), 0);
        auto credentials = open();
        ASSERT_TRUE(credentials) << credentials.error().message;
        ASSERT_TRUE(credentials->provide_admin("127.0.0.1:1"));
        EXPECT_EQ(content("ca.pem"), authority);
        EXPECT_TRUE(tls::key_matches({content("controller.key"), content("controller.crt")}));
        EXPECT_FALSE(content("admin.yaml").empty());
    }
}

TEST_F(CredentialsTest, AForeignPairIsReplaced)
{
    ASSERT_TRUE(open());
    ASSERT_TRUE(
        state->write("controller.key", tls::make_authority(std::chrono::system_clock::now(), hours(1))->key_pem, 0600));
    ASSERT_TRUE(open());
    EXPECT_TRUE(tls::key_matches({content("controller.key"), content("controller.crt")}));
}

TEST_F(CredentialsTest, ALostAuthorityIsNotReplacedBehindTheAgentsBacks)
{
    ASSERT_TRUE(open());
    ASSERT_EQ(::unlink(state->path("ca.pem").c_str()), 0);
    const auto lost = open();
    ASSERT_FALSE(lost);
    EXPECT_NE(lost.error().message.find("ca.pem"), std::string::npos);
    EXPECT_FALSE(lost.error().mend.empty());
    ASSERT_TRUE(state->write("ca.pem", "rubbish", 0600));
    EXPECT_FALSE(open());
}

TEST_F(CredentialsTest, TheControllersCertificateIsRenewedInTimeWithItsKey)
{
    auto credentials = open();
    ASSERT_TRUE(credentials);
    const auto key = content("controller.key");
    const auto certificate = content("controller.crt");
    clock.shift = 24 * 3600 * 200;
    EXPECT_FALSE(*credentials->renew_if_due());
    clock.shift = 24 * 3600 * 300;
    EXPECT_TRUE(*credentials->renew_if_due());
    EXPECT_EQ(content("controller.key"), key);
    EXPECT_NE(content("controller.crt"), certificate);
    EXPECT_TRUE(tls::key_matches({key, content("controller.crt")}));
    EXPECT_FALSE(*credentials->renew_if_due());
}

TEST_F(CredentialsTest, TheAdminsContextIsRenewedAtAStartBeforeItExpires)
{
    auto credentials = open();
    ASSERT_TRUE(credentials);
    EXPECT_TRUE(*credentials->provide_admin("127.0.0.1:1"));
    clock.shift = 24 * 3600 * 340;
    EXPECT_TRUE(*credentials->provide_admin("127.0.0.1:1"));
    ASSERT_TRUE(state->write("admin.yaml", "not: [yaml", 0600));
    EXPECT_TRUE(*credentials->provide_admin("127.0.0.1:1"));
    EXPECT_FALSE(*credentials->provide_admin("127.0.0.1:1"));
}

TEST_F(CredentialsTest, OneControllerAFolder)
{
    const auto second = StateDir::open(dir.file("state"));
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().message.find("another"), std::string::npos);
    state.reset();
    EXPECT_TRUE(StateDir::open(dir.file("state")));
}

TEST_F(CredentialsTest, AWriteThatFailsLeavesTheOldFile)
{
    ASSERT_TRUE(state->write("file", "old", 0600));
    ASSERT_EQ(::mkdir(state->path("file.new").c_str(), 0700), 0); // the new content has nowhere to go
    EXPECT_FALSE(state->write("file", "new", 0600));
    EXPECT_EQ(content("file"), "old");
}

} // namespace
} // namespace bulkhead::controller
