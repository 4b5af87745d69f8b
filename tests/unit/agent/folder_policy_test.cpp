// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/folder_policy.h"
#include "tests/harness/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <thread>

namespace bulkhead::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;

constexpr const char* shop = R"(
version: 1
segment: web
selector: {role: web}
mode: enforce
allow:
  - {id: in, from: {segment: api}, service: tcp/80}
---
version: 1
segment: api
selector: {role: api}
---
version: 1
workloads:
  - {name: api-1, ip: [192.0.2.10], labels: {role: api}}
  - {name: web-1, labels: {env: prod}}
)";

OwnWorkload web()
{
    return {"web-1", {{"role", "web"}}, {*IpAddress::parse("192.0.2.20")}};
}

TEST(FolderPolicy, CompilesForThisHost)
{
    FolderPolicy policy;
    const auto state = policy.compile({{"shop.yaml", shop}}, web());
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_THAT(state->policy.segments, ElementsAre("web"));
    EXPECT_THAT(state->policy.rules, Contains(Field(&policy::HostRule::id, "web/in")));
    EXPECT_EQ(state->own_labels, (policy::Labels{{"role", "web"}, {"env", "prod"}})); // its own and the document's
    EXPECT_EQ(state->addresses.at(*IpAddress::parse("192.0.2.10")).workload, "api-1");
    EXPECT_EQ(state->addresses.at(*IpAddress::parse("192.0.2.20")).workload, "web-1");
}

TEST(FolderPolicy, AHostThatNoSegmentSelectsEnforcesNothing)
{
    FolderPolicy policy;
    const auto state = policy.compile({{"shop.yaml", shop}}, {"other", {}, {}});
    ASSERT_TRUE(state);
    EXPECT_THAT(state->policy.segments, ::testing::IsEmpty());
    EXPECT_FALSE(state->policy.defaults[0][1].action);
}

TEST(FolderPolicy, ADeclaredAddressCountsMoreThanAnInterface)
{
    FolderPolicy policy;
    auto own = web();
    own.addresses.push_back(*IpAddress::parse("192.0.2.10"));
    const auto state = policy.compile({{"shop.yaml", shop}}, own);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->addresses.at(*IpAddress::parse("192.0.2.10")).workload, "api-1");
}

TEST(FolderPolicy, CompilingAgainGivesTheSameState)
{
    FolderPolicy policy, restarted;
    const auto first = policy.compile({{"shop.yaml", shop}}, web());
    const auto second = policy.compile({{"shop.yaml", shop}}, web());
    restarted.remember(*first);
    const auto third = restarted.compile({{"shop.yaml", shop}}, web());
    ASSERT_TRUE(first && second && third);
    EXPECT_EQ(*first, *second);
    EXPECT_EQ(*first, *third);
}

TEST(FolderPolicy, NumbersThatAreTakenAreNotGivenAgain)
{
    wire::HostState before;
    before.identities[9] = {9, {{"role", "gone"}}, "", {}};
    FolderPolicy policy;
    policy.remember(before);
    const auto state = policy.compile({{"shop.yaml", shop}}, web());
    ASSERT_TRUE(state);
    for (const auto& [id, identity] : state->identities)
        EXPECT_GT(id, 9U);
}

TEST(FolderPolicy, EveryErrorOfEveryFileIsNamed)
{
    FolderPolicy policy;
    const auto state = policy.compile({{"a.yaml", "version: 1\nsegmnt: x\n"}, {"b.yaml", "version: 2\n"}}, web());
    ASSERT_FALSE(state);
    EXPECT_EQ(state.error().kind, ErrorKind::invalid);
    EXPECT_THAT(state.error().message, HasSubstr("a.yaml:2:1"));
    EXPECT_THAT(state.error().message, HasSubstr("b.yaml:1:"));
}

TEST(FolderPolicy, AFolderThatIsNotThereIsInvalid)
{
    const test::TempDir dir;
    FolderPolicy policy;
    EXPECT_EQ(policy.compile(dir / "none", web()).error().kind, ErrorKind::invalid);
    EXPECT_EQ(policy.compile(dir.folder("empty"), web()).error().kind, ErrorKind::invalid);
}

// Times of files are of the kernel's tick, 1 to 10 ms.
void let_a_tick_pass()
{
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
}

TEST(FolderPolicy, AFolderLooksAnotherWhenAnythingInItHasChanged)
{
    const test::TempDir dir;
    const auto folder = dir.folder("policy");
    dir.file("policy/one.yaml", "one");
    const auto first = look_of(folder, web());
    EXPECT_EQ(first, look_of(folder, web()));
    EXPECT_NE(first, look_of(folder, {"other", web().labels, {}}));
    EXPECT_NE(first, look_of(folder, {"web-1", {{"role", "api"}}, {}}));

    auto last = first;
    const auto changed = [&](const char* how) {
        const auto now = look_of(folder, web());
        EXPECT_NE(now, last) << how;
        last = now;
        let_a_tick_pass();
    };
    let_a_tick_pass();
    dir.file("policy/one.yaml", "two");
    changed("written, as long as before");
    std::filesystem::last_write_time(folder + "/one.yaml",
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(24));
    changed("its time set back, as cp -p does");
    std::filesystem::rename(folder + "/one.yaml", folder + "/two.yaml");
    changed("renamed");
    dir.file("policy/new.yaml", "new");
    changed("another");
    std::filesystem::remove(folder + "/new.yaml");
    changed("removed");
    std::filesystem::create_symlink("nowhere", folder + "/three.yaml");
    EXPECT_EQ(look_of(folder, web()), "") << "a link to what is not there";
    EXPECT_EQ(look_of(dir / "no folder", web()), "");
}

} // namespace
} // namespace bulkhead::agent
