// SPDX-License-Identifier: Apache-2.0
#include "agent/state/atomic_file.h"
#include "agent/state/policy_state.h"
#include "agent/state/reported_losses.h"
#include "agent/state/sealed_bytes.h"
#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <sys/stat.h>

namespace bulkhead::agent {
namespace {

using test::TempDir;

SavedPolicy saved_policy(std::uint64_t version = 4)
{
    SavedPolicy saved;
    saved.source = PolicySource::controller;
    saved.kernel_generation = 17;
    saved.boot_id = "boot";
    saved.state.generation = 12;
    saved.state.policy_version = version;
    saved.state.policy.segments = {"web"};
    saved.state.policy.defaults[1][0] = {policy::Action::deny, "web"};
    saved.state.identities[3] = {3, {{"a", "b"}}, "named", {"web"}};
    saved.state.addresses[*IpAddress::parse("2001:db8::1")] = {3, "named"};
    saved.state.own_labels = {{"role", "web"}};
    policy::HostRule rule;
    rule.id = "failsafe/ssh";
    rule.action = policy::HostAction::failsafe;
    rule.direction = policy::Direction::inbound;
    rule.peers.any = true;
    rule.services = {{policy::Protocol::tcp, {22, 22}}};
    saved.failsafes = {rule};
    return saved;
}

TEST(PolicyState, ComesBackAsItWas)
{
    const TempDir dir;
    PolicyState state(dir.path());
    ASSERT_TRUE(state.prepare(saved_policy()));
    EXPECT_EQ(state.load()->next, saved_policy());
    EXPECT_FALSE(state.load()->current);
    ASSERT_TRUE(state.commit());
    EXPECT_EQ(state.load()->current, saved_policy());
    EXPECT_FALSE(state.load()->next);
    EXPECT_TRUE(state.load()->damage.empty());
    struct stat found {};
    ASSERT_EQ(::stat((dir / "policy.pb").c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777U, 0600U);
}

TEST(PolicyState, DiscardLeavesTheCurrentOne)
{
    const TempDir dir;
    PolicyState state(dir.path());
    ASSERT_TRUE(state.prepare(saved_policy(1)));
    ASSERT_TRUE(state.commit());
    ASSERT_TRUE(state.prepare(saved_policy(2)));
    state.discard();
    EXPECT_EQ(state.load()->current, saved_policy(1));
    EXPECT_FALSE(state.load()->next);
}

TEST(PolicyState, EveryFlippedByteAndEveryCutIsNoticed)
{
    const std::string good = encode(saved_policy());
    ASSERT_TRUE(decode_saved_policy(good));
    for (std::size_t i = 0; i < good.size(); ++i) {
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ 0x20);
        EXPECT_FALSE(decode_saved_policy(bad)) << i;
        EXPECT_FALSE(decode_saved_policy(good.substr(0, i))) << i;
    }
    EXPECT_FALSE(decode_saved_policy(good + "x"));
}

TEST(PolicyState, ATrialIsKeptBesideThePolicyUntilItIsConfirmed)
{
    const TempDir dir;
    PolicyState state(dir.path());
    ASSERT_TRUE(state.prepare(saved_policy(1)));
    ASSERT_TRUE(state.commit());
    auto trial = saved_policy(2);
    trial.until = MonotonicTime(123456789);
    ASSERT_TRUE(state.prepare(trial));
    ASSERT_TRUE(state.commit_trial());
    EXPECT_EQ(state.load()->current, saved_policy(1));
    EXPECT_EQ(state.load()->trial, trial);
    ASSERT_TRUE(state.confirm_trial());
    EXPECT_EQ(state.load()->current->state, trial.state);
    EXPECT_FALSE(state.load()->trial);
    EXPECT_FALSE(state.confirm_trial());
    ASSERT_TRUE(state.prepare(trial));
    ASSERT_TRUE(state.commit_trial());
    state.drop_trial();
    EXPECT_FALSE(state.load()->trial);
}

TEST(PolicyState, AFileOfTheVersionBeforeTrialsIsRead)
{
    const std::string now = encode(saved_policy());
    constexpr std::size_t digest = 32, until = 8;
    auto before = now.substr(0, now.size() - digest - until);
    before[5] = '1'; // BHPOL1
    EXPECT_EQ(decode_saved_policy(seal(before)), saved_policy());
    EXPECT_FALSE(decode_saved_policy(seal(now.substr(0, now.size() - digest - until)))) << "BHPOL2 without its end";
}

TEST(PolicyState, ADamagedFileIsSetAside)
{
    const TempDir dir;
    dir.file("policy.pb", "rubbish");
    PolicyState state(dir.path());
    const auto loaded = state.load();
    ASSERT_TRUE(loaded);
    EXPECT_FALSE(loaded->current);
    EXPECT_EQ(loaded->damage.size(), 1U);
    EXPECT_TRUE(std::filesystem::exists(dir / "policy.pb.damaged"));
    EXPECT_TRUE(state.load()->damage.empty());
}

TEST(AtomicFile, AFailureLeavesTheOldFileAndNoTemporary)
{
    const TempDir dir;
    const auto path = dir.file("kept", "old");
    std::filesystem::create_directory(path + ".tmp"); // cannot be opened for writing
    EXPECT_FALSE(write_file_atomically(path, "new", 0600));
    EXPECT_EQ(**read_file_if_there(path), "old");
}

TEST(AtomicFile, SetsTheModeWhateverTheUmask)
{
    const TempDir dir;
    const auto before = ::umask(0);
    ASSERT_TRUE(write_file_atomically(dir / "secret", "x", 0600));
    ::umask(before);
    struct stat found {};
    ASSERT_EQ(::stat((dir / "secret").c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777U, 0600U);
}

TEST(ReportedLosses, AreRememberedWithinABoot)
{
    const TempDir dir;
    ReportedLosses losses(dir.path(), "boot");
    EXPECT_TRUE(losses.reported().empty());
    ASSERT_TRUE(losses.keep({{"flow_lost", 3}, {"deny_lost", 0}, {"flow_events", 1000}}));
    EXPECT_EQ(ReportedLosses(dir.path(), "boot").reported(), (std::map<std::string, std::uint64_t>{{"flow_lost", 3}}));
    EXPECT_TRUE(ReportedLosses(dir.path(), "next").reported().empty());
}

TEST(ReportedLosses, AreNotWrittenWhileNothingIsLost)
{
    const TempDir dir;
    ReportedLosses losses(dir.path(), "boot");
    ASSERT_TRUE(losses.keep({{"flow_events", 1000}}));
    EXPECT_FALSE(std::filesystem::exists(dir / "reported-losses"));
}

} // namespace
} // namespace bulkhead::agent
