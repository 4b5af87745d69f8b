// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/enforcer_life.h"

#include <gmock/gmock.h>

namespace bulkhead::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Not;

class EnforcerTest : public ::testing::Test {
protected:
    // The first is in force; the switch to the second was prepared when the agent was killed.
    void begin_a_second_policy()
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
        PolicyState saved(dir.path());
        ASSERT_TRUE(saved.prepare(
            {PolicySource::controller, 2, boot, state_of(2, "web/other"), "", failsafes(), std::nullopt}));
    }

    test::TempDir dir;
    test::ScriptedDatapath kernel;
};

TEST_F(EnforcerTest, AFreshHostEnforcesNothing)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    EXPECT_EQ(kernel.switches, 0U);
    EXPECT_FALSE(life.enforcer.has_policy());
    EXPECT_FALSE(life.enforcer.plane_in_force());
    ASSERT_TRUE(life.enforcer.view());
    EXPECT_EQ(kernel.adoptions, 1U); // listeners older than the programs
}

TEST_F(EnforcerTest, TheWordsOfAGenerationAreKnownBeforeItsEventsCome)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    std::uint32_t known = 0;
    kernel.during_switch = [&] { known = life.views.back()->generation; };
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    EXPECT_EQ(known, 1U);
    EXPECT_EQ(kernel.word.generation, 1U);
    EXPECT_EQ(life.views.back()->policy_version, 1U);
}

TEST_F(EnforcerTest, AnUnexpectedGenerationStillHasItsWordsAndIsSaved)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        kernel.skip_generations = 5;
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
        EXPECT_EQ(life.enforcer.view()->generation, kernel.word.generation);
    }
    Life second(kernel, dir.path());
    ASSERT_TRUE(second.resume());
    EXPECT_TRUE(second.enforcer.has_policy());
}

TEST_F(EnforcerTest, FailsafesAreInEveryPolicyAndNotInItsState)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    EXPECT_THAT(life.enforcer.view()->policy.rules, Contains(Field(&policy::HostRule::id, "failsafe/ssh")));
    EXPECT_THAT(life.enforcer.state().policy.rules, Not(Contains(Field(&policy::HostRule::id, "failsafe/ssh"))));
}

TEST_F(EnforcerTest, ARefusedSwitchChangesNothing)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    kernel.refusal = "map is full";
    ASSERT_FALSE(life.enforcer.enforce(state_of(2, "web/other"), PolicySource::controller));
    EXPECT_EQ(life.enforcer.refusal(), "map is full");
    EXPECT_EQ(life.enforcer.state(), state_of(1));
    EXPECT_EQ(life.views.back()->policy_version, 1U);
    EXPECT_EQ(life.views.back()->generation, kernel.word.generation);

    Life second(kernel, dir.path());
    kernel.refusal.reset();
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(1)); // nor on disk

    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    EXPECT_EQ(life.enforcer.refusal(), "");
}

TEST_F(EnforcerTest, TheSamePolicyAgainSwitchesNothing)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    auto same = state_of(1);
    same.generation = 9;
    same.policy_version = 8;
    ASSERT_TRUE(life.enforcer.enforce(same, PolicySource::controller));
    EXPECT_EQ(kernel.switches, 1U);
    EXPECT_EQ(life.enforcer.state().generation, 9U);
    EXPECT_EQ(life.views.back()->policy_version, 8U); // but records name the newer version
    EXPECT_EQ(life.views.back()->generation, 1U);
    Life second(kernel, dir.path());
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state().generation, 9U);
}

TEST_F(EnforcerTest, ARestartTakesOverWithoutASwitchAndKnowsTheRules)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(3), PolicySource::folder));
    }
    Life second(kernel, dir.path());
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(kernel.switches, 1U);
    EXPECT_EQ(second.enforcer.state(), state_of(3));
    EXPECT_EQ(second.enforcer.source(), PolicySource::folder);
    EXPECT_EQ(second.enforcer.view()->generation, kernel.word.generation);
    EXPECT_THAT(second.enforcer.view()->policy.rules, Contains(Field(&policy::HostRule::id, "web/in")));
}

TEST_F(EnforcerTest, AfterARebootTheSavedPolicyIsRealised)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(3), PolicySource::controller));
    }
    test::ScriptedDatapath rebooted;
    Life second(rebooted, dir.path(), "another-boot");
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(rebooted.switches, 1U);
    EXPECT_EQ(second.enforcer.state(), state_of(3));
}

TEST_F(EnforcerTest, KilledBetweenTheSwitchAndTheSaveItStillKnowsWhatIsInForce)
{
    ASSERT_NO_FATAL_FAILURE(begin_a_second_policy());
    kernel.pin(2);
    Life second(kernel, dir.path());
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(2, "web/other"));
    EXPECT_FALSE(std::filesystem::exists(dir / "policy.next.pb")); // put in its place
}

TEST_F(EnforcerTest, WhatAnotherVersionEnforcesIsRealisedAndNotWhatWasSavedBefore)
{
    ASSERT_NO_FATAL_FAILURE(begin_a_second_policy());
    test::ScriptedDatapath upgraded;
    upgraded.predecessors = 2;
    Life second(upgraded, dir.path());
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(upgraded.switches, 1U);
    EXPECT_EQ(second.enforcer.state(), state_of(2, "web/other"));
    upgraded.predecessors = upgraded.word.generation; // and once more
    Life third(upgraded, dir.path());
    ASSERT_TRUE(third.resume());
    EXPECT_EQ(third.enforcer.state(), state_of(2, "web/other"));
}

TEST_F(EnforcerTest, WhatAnotherVersionEnforcesIsNotReplacedByAnOlderPolicy)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    }
    test::ScriptedDatapath upgraded;
    upgraded.predecessors = 2; // its disk was full
    Life second(upgraded, dir.path());
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(upgraded.switches, 0U);
    EXPECT_FALSE(second.enforcer.has_policy());
    EXPECT_TRUE(second.enforcer.plane_in_force());
    ASSERT_TRUE(second.enforcer.enforce(state_of(3), PolicySource::controller));
    EXPECT_EQ(second.enforcer.state(), state_of(3));
}

TEST_F(EnforcerTest, KilledBeforeTheSwitchTheOldOneIsInForce)
{
    ASSERT_NO_FATAL_FAILURE(begin_a_second_policy());
    Life second(kernel, dir.path()); // the kernel is still at 1
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(1));
}

TEST_F(EnforcerTest, PlanesWithoutSavedWordsGoOn)
{
    kernel.pin(7);
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    EXPECT_EQ(kernel.switches, 0U);
    EXPECT_FALSE(life.enforcer.has_policy());
    EXPECT_TRUE(life.enforcer.plane_in_force());
    EXPECT_EQ(life.enforcer.view()->generation, 7U);
}

TEST_F(EnforcerTest, GenerationsOfAnotherBootMeanNothing)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    }
    Life second(kernel, dir.path(), "another-boot"); // planes of generation 1 that somebody else made
    ASSERT_TRUE(second.resume());
    EXPECT_FALSE(second.enforcer.has_policy());
}

TEST_F(EnforcerTest, ADamagedFileIsSetAsideAndThePlanesGoOn)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    }
    dir.file("policy.pb", "BHPOL1\nnonsense that is long enough to hold a checksum, but holds none at all");
    Life second(kernel, dir.path());
    ASSERT_TRUE(second.resume());
    EXPECT_TRUE(second.enforcer.plane_in_force());
    EXPECT_FALSE(second.enforcer.has_policy());
    EXPECT_TRUE(std::filesystem::exists(dir / "policy.pb.damaged"));
    EXPECT_FALSE(std::filesystem::exists(dir / "policy.pb"));
}

TEST_F(EnforcerTest, ADiskThatCannotBeWrittenDoesNotKeepAPolicyFromBeingEnforced)
{
    Life life(kernel, dir / "no/such/folder");
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    EXPECT_EQ(kernel.switches, 1U);
    EXPECT_EQ(life.enforcer.refusal(), "");
}

TEST_F(EnforcerTest, WhatCouldNotBeSavedIsSavedWhenTheDiskIsBack)
{
    {
        Life life(kernel, dir / "state");
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
        dir.folder("state");
        for (int i = 0; i < 10; ++i)
            life.enforcer.tick();
    }
    Life second(kernel, dir / "state");
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(1));
}

TEST_F(EnforcerTest, ChangedFailsafesAreRealisedAtOnceAndAtARestart)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
        ASSERT_TRUE(life.enforcer.set_failsafes(failsafes()));
        EXPECT_EQ(kernel.switches, 1U); // the same ones
        ASSERT_TRUE(life.enforcer.set_failsafes(failsafes("198.51.100.1")));
        EXPECT_EQ(kernel.switches, 2U);
        EXPECT_THAT(life.enforcer.view()->policy.rules, Contains(Field(&policy::HostRule::id, "failsafe/controller")));
    }
    Life second(kernel, dir.path());
    ASSERT_TRUE(second.resume(failsafes("198.51.100.2")));
    EXPECT_EQ(kernel.switches, 3U);
    EXPECT_EQ(second.enforcer.failsafes(), failsafes("198.51.100.2"));
}

TEST_F(EnforcerTest, TheControllersAddressIsKeptUntilItsNameResolves)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume(failsafes("198.51.100.1")));
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    }
    Life restarted(kernel, dir.path());
    ASSERT_TRUE(restarted.enforcer.resume(failsafes(), {"failsafe/controller"}));
    EXPECT_EQ(restarted.enforcer.failsafes(), failsafes("198.51.100.1"));
    EXPECT_EQ(kernel.switches, 1U);

    test::ScriptedDatapath rebooted;
    Life after_boot(rebooted, dir.path(), "another-boot");
    ASSERT_TRUE(after_boot.enforcer.resume(failsafes(), {"failsafe/controller"}));
    EXPECT_EQ(after_boot.enforcer.failsafes(), failsafes("198.51.100.1"));
}

TEST_F(EnforcerTest, FacetsAreRewrittenOnlyWhenTheyChange)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    life.enforcer.tick();
    EXPECT_THAT(kernel.facet_updates, IsEmpty());
    FacetRow row;
    row.key.value = 1000;
    row.classes.word[0] = 3;
    life.subjects.table = {row};
    life.enforcer.tick();
    life.enforcer.tick();
    ASSERT_EQ(kernel.facet_updates.size(), 1U);
    EXPECT_EQ(kernel.facet_updates[0][0].key.value, 1000U);
}

TEST_F(EnforcerTest, TellsOfFacetsThatGoBeforeTheKernelForgetsThem)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    FacetRow stays, goes, comes;
    stays.key.value = 1;
    goes.key.value = 2;
    comes.key.value = 3;
    life.subjects.table = {stays, goes};
    life.enforcer.tick();
    EXPECT_THAT(life.gone, IsEmpty());
    life.subjects.table = {stays, comes};
    life.enforcer.tick();
    EXPECT_THAT(life.gone, ElementsAre(std::pair(std::uint64_t{2}, std::size_t{1})));
    EXPECT_EQ(kernel.facet_updates.size(), 2U);
    life.subjects.table[0].classes.word[0] = 8;
    life.enforcer.tick();
    EXPECT_THAT(life.gone, ElementsAre(testing::_, std::pair(std::uint64_t{1}, std::size_t{2}))) << "says less, maybe";
}

TEST_F(EnforcerTest, TellsOfProcessesThatThePolicyNamesAndTheHostHasNot)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    life.subjects.missing = {"unit 'db.service': no such cgroup"};
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    EXPECT_EQ(life.enforcer.unmatched(), life.subjects.missing);
    life.subjects.missing.clear();
    life.enforcer.tick();
    EXPECT_THAT(life.enforcer.unmatched(), IsEmpty());
}

// Digests of large programs take a while, and without them their sessions would be cut.
TEST_F(EnforcerTest, ProgramsAreWaitedForBeforeSessionsAreJudged)
{
    using std::chrono::seconds;
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
        EXPECT_GE(life.subjects.last_patience, seconds(1));
        life.enforcer.tick();
        EXPECT_LT(life.subjects.last_patience, seconds(1));
    }
    Life restarted(kernel, dir.path());
    ASSERT_TRUE(restarted.resume());
    EXPECT_GE(restarted.subjects.last_patience, seconds(1));
    ASSERT_TRUE(restarted.enforcer.try_out(state_of(2), PolicySource::controller, seconds(60)));
    restarted.enforcer.tick();
    ASSERT_TRUE(restarted.enforcer.roll_back());
    EXPECT_GE(restarted.subjects.last_patience, seconds(1));
}

TEST_F(EnforcerTest, InAQuarantineNoProcessIsMissed)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    life.subjects.missing = {"unit 'db.service': no such cgroup"};
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    ASSERT_TRUE(life.enforcer.set_quarantine({QuarantineHold{}, {}}));
    EXPECT_THAT(life.enforcer.unmatched(), IsEmpty());
}

class ExpiringRule : public ::testing::Test {
protected:
    wire::HostState state(Life& life)
    {
        auto made = state_of(1);
        made.policy.rules[0].expires = life.clock.wall() + std::chrono::hours(2);
        return made;
    }
    static void tick(Life& life)
    {
        life.clock.advance(std::chrono::seconds(1));
        life.enforcer.tick();
    }
    const test::TempDir dir;
    test::ScriptedDatapath kernel;
};

// The kernel's programs have a clock of their own, which nobody sets and which sleeps with the host.
TEST_F(ExpiringRule, EndsByTheTimeThatWasSet)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state(life), PolicySource::folder));
    tick(life);
    const auto before = kernel.switches;
    tick(life);
    life.clock.step_wall(std::chrono::milliseconds(900));
    tick(life);
    EXPECT_EQ(kernel.switches, before);
    life.clock.step_wall(std::chrono::hours(1));
    tick(life);
    EXPECT_EQ(kernel.switches, before + 1);
    tick(life);
    EXPECT_EQ(kernel.switches, before + 1);
    life.clock.step_wall(-std::chrono::hours(1));
    tick(life);
    EXPECT_EQ(kernel.switches, before + 2);
}

TEST_F(ExpiringRule, EndsByTheTimeOfNowAfterARestart)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state(life), PolicySource::folder));
    }
    Life restarted(kernel, dir.path());
    ASSERT_TRUE(restarted.resume());
    const auto before = kernel.switches;
    tick(restarted);
    tick(restarted);
    EXPECT_EQ(kernel.switches, before + 1) << "it may have been set meanwhile";
}

TEST_F(ExpiringRule, OfWhatWasInForceBeforeATrialEndsByTheTimeThatWasSetMeanwhile)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state(life), PolicySource::folder));
    ASSERT_TRUE(life.enforcer.try_out(state_of(2, "web/other"), PolicySource::folder, std::chrono::seconds(60)));
    life.clock.step_wall(std::chrono::hours(1));
    tick(life);
    ASSERT_TRUE(life.enforcer.roll_back());
    const auto before = kernel.switches;
    tick(life);
    EXPECT_EQ(kernel.switches, before + 1);
}

TEST_F(ExpiringRule, WithoutOneTheTimeMayBeSetAsOftenAsAnybodyLikes)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::folder));
    const auto before = kernel.switches;
    life.clock.step_wall(std::chrono::hours(1));
    tick(life);
    EXPECT_EQ(kernel.switches, before);
}

TEST(Enforcer, LiveSessionsAreJudgedAgainWhenARuleEnds)
{
    const test::TempDir dir;
    test::ScriptedDatapath kernel;
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    auto state = state_of(1);
    state.policy.rules[0].expires = life.clock.wall() + std::chrono::seconds(60);
    ASSERT_TRUE(life.enforcer.enforce(state, PolicySource::folder));
    for (int i = 0; i < 5; ++i) { // the second look after a switch
        life.clock.advance(std::chrono::seconds(1));
        life.enforcer.tick();
    }
    const auto before = kernel.adoptions;
    life.clock.advance(std::chrono::seconds(54));
    life.enforcer.tick();
    EXPECT_EQ(kernel.adoptions, before);
    life.clock.advance(std::chrono::seconds(1));
    life.enforcer.tick();
    EXPECT_GT(kernel.adoptions, before);
    for (int i = 0; i < 5; ++i) {
        life.clock.advance(std::chrono::seconds(1));
        life.enforcer.tick();
    }
    const auto after = kernel.adoptions;
    life.clock.advance(std::chrono::seconds(60));
    life.enforcer.tick();
    EXPECT_EQ(kernel.adoptions, after) << "once";
}

} // namespace
} // namespace bulkhead::agent
