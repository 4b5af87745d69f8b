// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/enforcer_life.h"

#include <gmock/gmock.h>

#include <filesystem>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using ::testing::Each;
using ::testing::Field;

Quarantine by_admin(const std::string& reason = "incident 7", std::int64_t until_us = 0)
{
    return {std::nullopt, QuarantineHold{"alice", reason, 1, until_us}};
}

class QuarantineTest : public ::testing::Test {
protected:
    Life& start(const std::string& boot_id = boot)
    {
        const auto passed = life_ ? life_->clock.monotonic() - test::FakeClock().monotonic() : 0ns;
        life_.reset();
        life_ = std::make_unique<Life>(kernel, dir.path(), boot_id);
        life_->clock.advance(passed);
        return *life_;
    }
    Life& start_with_policy()
    {
        auto& life = start();
        EXPECT_TRUE(life.resume());
        EXPECT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
        return life;
    }
    void expect_cut_off() const
    {
        EXPECT_TRUE(life_->enforcer.quarantined());
        EXPECT_EQ(kernel.word.flags, BH_CONTROL_QUARANTINE);
        const auto& view = *life_->enforcer.view();
        EXPECT_EQ(view.generation, kernel.word.generation);
        EXPECT_THAT(view.policy.rules, Each(Field(&policy::HostRule::action, policy::HostAction::failsafe)));
        EXPECT_EQ(view.policy.rules.size(), failsafes().size());
        for (const auto* plane : {&view.active, &view.shadow})
            EXPECT_THAT(plane->info.default_action, Each(BH_DEFAULT_DENY));
        EXPECT_EQ(view.policy.sessions.kind, policy::Sessions::Kind::cut);
    }
    void expect_free(std::uint64_t version) const
    {
        EXPECT_FALSE(life_->enforcer.quarantined());
        EXPECT_EQ(kernel.control().flags, 0);
        EXPECT_EQ(life_->enforcer.view()->generation, kernel.control().generation);
        EXPECT_EQ(life_->enforcer.view()->policy_version, version);
        EXPECT_EQ(life_->enforcer.state().policy_version, version);
        EXPECT_FALSE(std::filesystem::exists(dir / "quarantine.pb"));
    }

    test::TempDir dir;
    test::ScriptedDatapath kernel;
    std::unique_ptr<Life> life_;
};

TEST_F(QuarantineTest, LeavesNothingButFailsafesAndThenThePolicyAgain)
{
    auto& life = start_with_policy();
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin()));
    expect_cut_off();
    EXPECT_EQ(life.enforcer.state(), state_of(1)) << "the policy is not forgotten";
    const auto switches = kernel.switches;
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin("incident 7, and more")));
    EXPECT_EQ(kernel.switches, switches) << "words alone";
    ASSERT_TRUE(life.enforcer.set_quarantine({}));
    expect_free(1);
}

TEST_F(QuarantineTest, HoldsOnAHostWithoutPolicy)
{
    auto& life = start();
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin()));
    EXPECT_TRUE(life.enforcer.quarantined());
    ASSERT_TRUE(life.enforcer.set_quarantine({}));
    EXPECT_FALSE(life.enforcer.quarantined());
    EXPECT_FALSE(life.enforcer.plane_in_force());
}

TEST_F(QuarantineTest, PoliciesThatComeMeanwhileWait)
{
    auto& life = start_with_policy();
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin()));
    const auto switches = kernel.switches;
    ASSERT_TRUE(life.enforcer.enforce(state_of(2, "web/two"), PolicySource::controller));
    EXPECT_EQ(kernel.switches, switches);
    expect_cut_off();
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_cut_off();
    EXPECT_EQ(second.enforcer.state().policy_version, 2U);
    ASSERT_TRUE(second.enforcer.set_quarantine({}));
    expect_free(2);
    auto& third = start();
    ASSERT_TRUE(third.resume());
    expect_free(2);
}

TEST_F(QuarantineTest, OutlivesRestartsAndReboots)
{
    auto& life = start_with_policy();
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin()));
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_cut_off();
    EXPECT_EQ(second.enforcer.quarantine(), by_admin());
    kernel = {};
    auto& rebooted = start("another-boot");
    ASSERT_TRUE(rebooted.resume());
    expect_cut_off();
    ASSERT_TRUE(rebooted.enforcer.set_quarantine({}));
    expect_free(1);
}

TEST_F(QuarantineTest, EndsByItselfWhenItsTimeIsOver)
{
    auto& life = start_with_policy();
    const auto now_us =
        std::chrono::duration_cast<std::chrono::microseconds>(life.clock.wall().time_since_epoch()).count();
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin("an hour", now_us + 3'600'000'000)));
    life.clock.advance(3599s);
    life.enforcer.tick();
    expect_cut_off();
    auto& second = start(); // the time goes on while the agent is away
    second.clock.advance(1s);
    ASSERT_TRUE(second.resume());
    second.enforcer.tick();
    expect_free(1);
    ASSERT_EQ(second.quarantines_over.size(), 1U);
    EXPECT_EQ(second.quarantines_over[0].by, "alice");
}

TEST_F(QuarantineTest, StandsWhileAnybodyHoldsIt)
{
    auto& life = start_with_policy();
    auto both = by_admin();
    both.local = QuarantineHold{"root", "", 2, 0};
    ASSERT_TRUE(life.enforcer.set_quarantine(both));
    auto local_only = both;
    local_only.controller.reset();
    ASSERT_TRUE(life.enforcer.set_quarantine(local_only));
    expect_cut_off();
    auto& second = start();
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.quarantine(), local_only);
    ASSERT_TRUE(second.enforcer.set_quarantine({}));
    expect_free(1);
}

TEST_F(QuarantineTest, ComesBeforeATrialAndReleaseReturnsToIt)
{
    auto& life = start_with_policy();
    ASSERT_TRUE(life.enforcer.try_out(state_of(2, "web/two"), PolicySource::controller, 60s));
    const auto until = *life.enforcer.trial_until();
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin()));
    expect_cut_off();
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_cut_off();
    second.clock.advance(30s);
    ASSERT_TRUE(second.enforcer.set_quarantine({}));
    expect_free(2);
    EXPECT_EQ(kernel.trial().phase, TrialState::Phase::running);
    EXPECT_EQ(kernel.trial().until, until);
    EXPECT_EQ(second.enforcer.confirmed_version(), 1U);
    second.clock.advance(30s);
    second.enforcer.tick();
    expect_free(1);
}

TEST_F(QuarantineTest, ATrialThatEndsInItLeavesTheConfirmedPolicyToReturnTo)
{
    auto& life = start_with_policy();
    ASSERT_TRUE(life.enforcer.try_out(state_of(2, "web/two"), PolicySource::controller, 60s));
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin()));
    life.clock.advance(60s);
    life.enforcer.tick();
    expect_cut_off();
    EXPECT_EQ(life.lapses.size(), 1U);
    ASSERT_TRUE(life.enforcer.set_quarantine({}));
    expect_free(1);
}

TEST_F(QuarantineTest, ATrialIsConfirmedInIt)
{
    auto& life = start_with_policy();
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin()));
    ASSERT_TRUE(life.enforcer.try_out(state_of(2, "web/two"), PolicySource::controller, 60s));
    ASSERT_TRUE(life.enforcer.confirm(2));
    expect_cut_off();
    ASSERT_TRUE(life.enforcer.set_quarantine({}));
    expect_free(2);
    life.clock.advance(60s);
    life.enforcer.tick();
    expect_free(2);
}

TEST_F(QuarantineTest, WhatTheKernelRefusesIsTriedAgain)
{
    auto& life = start_with_policy();
    kernel.refusal = "no memory";
    EXPECT_FALSE(life.enforcer.set_quarantine(by_admin()));
    EXPECT_FALSE(life.enforcer.quarantined());
    EXPECT_EQ(life.enforcer.view()->generation, kernel.word.generation);
    life.enforcer.tick();
    kernel.refusal.reset();
    life.enforcer.tick();
    expect_cut_off();
    kernel.refusal = "no memory";
    EXPECT_FALSE(life.enforcer.set_quarantine({}));
    expect_cut_off();
    EXPECT_TRUE(std::filesystem::exists(dir / "quarantine.pb")) << "a crash now must not lift it";
    kernel.refusal.reset();
    life.enforcer.tick();
    expect_free(1);
}

TEST_F(QuarantineTest, FailsafesThatChangeHoldInIt)
{
    auto& life = start_with_policy();
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin()));
    ASSERT_TRUE(life.enforcer.set_failsafes(failsafes("198.51.100.1")));
    EXPECT_EQ(life.enforcer.view()->policy.rules.size(), failsafes("198.51.100.1").size());
    EXPECT_EQ(kernel.word.flags, BH_CONTROL_QUARANTINE);
}

TEST_F(QuarantineTest, ADamagedFileDoesNotLiftIt)
{
    auto& life = start_with_policy();
    ASSERT_TRUE(life.enforcer.set_quarantine(by_admin()));
    dir.file("quarantine.pb", "BHQUA1\nnonsense");
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_cut_off();
    EXPECT_TRUE(second.enforcer.quarantine().local);
    EXPECT_TRUE(std::filesystem::exists(dir / "quarantine.pb.damaged"));
}

// It could not be saved, and an upgrade with other maps comes: nothing of ours is in force yet.
TEST_F(QuarantineTest, OneThatOnlyTheKernelKnowsOutlivesAnUpgrade)
{
    start_with_policy();
    kernel.word = {BH_SLOT_NONE, BH_SLOT_NONE, BH_ABI_VERSION, 0, kernel.word.generation};
    kernel.predecessor_is_in_quarantine = true;
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_cut_off();
}

TEST(QuarantineFile, EveryFlippedByteAndEveryCutIsNoticed)
{
    auto quarantine = by_admin("why", 99);
    quarantine.local = QuarantineHold{"root", "also", 2, 0};
    const std::string good = encode(quarantine);
    EXPECT_EQ(decode_quarantine(good), quarantine);
    for (std::size_t i = 0; i < good.size(); ++i) {
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ 0x20);
        EXPECT_FALSE(decode_quarantine(bad)) << i;
        EXPECT_FALSE(decode_quarantine(good.substr(0, i))) << i;
    }
}

} // namespace
} // namespace bulkhead::agent
