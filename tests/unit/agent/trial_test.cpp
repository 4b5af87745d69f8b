// SPDX-License-Identifier: Apache-2.0
// Policies that must be confirmed in time, over restarts, reboots and crashes.
#include "tests/unit/agent/enforcer_life.h"

#include <filesystem>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

class TrialTest : public ::testing::Test {
protected:
    // One life after another over the same kernel, folder and time.
    Life& start(const std::string& boot_id = boot)
    {
        const auto passed = life_ ? life_->clock.monotonic() - test::FakeClock().monotonic() : 0ns;
        life_.reset();
        life_ = std::make_unique<Life>(kernel, dir.path(), boot_id);
        life_->clock.advance(passed);
        return *life_;
    }
    // Version 1 confirmed, version 2 on trial for a minute.
    Life& start_with_trial()
    {
        auto& life = start();
        EXPECT_TRUE(life.resume());
        EXPECT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
        EXPECT_TRUE(life.enforcer.try_out(state_of(2, "web/two"), PolicySource::controller, 60s));
        return life;
    }
    void expect_in_force(std::uint64_t version, bool on_trial) const
    {
        EXPECT_EQ(life_->enforcer.state().policy_version, version);
        EXPECT_EQ(life_->enforcer.view()->policy_version, version);
        EXPECT_EQ(life_->enforcer.view()->generation, kernel.control().generation);
        EXPECT_EQ(life_->enforcer.trial_until().has_value(), on_trial);
        EXPECT_EQ(kernel.trial().phase == TrialState::Phase::running, on_trial);
    }
    [[nodiscard]] bool on_disk(const std::string& name) const { return std::filesystem::exists(dir / name); }

    test::TempDir dir;
    test::ScriptedDatapath kernel;
    std::unique_ptr<Life> life_;
};

TEST_F(TrialTest, IsInForceUntilItsTimeIsOverAndThenTheConfirmedOneIs)
{
    auto& life = start_with_trial();
    expect_in_force(2, true);
    EXPECT_EQ(life.enforcer.confirmed_version(), 1U);
    EXPECT_EQ(*life.enforcer.trial_until(), life.clock.monotonic() + 60s);
    EXPECT_EQ(life.views.back()->fallback.lock()->generation, 1U) << "events of either generation get their words";
    life.clock.advance(59s);
    life.enforcer.tick();
    expect_in_force(2, true);
    life.clock.advance(1s);
    life.enforcer.tick();
    expect_in_force(1, false);
    ASSERT_EQ(life.lapses.size(), 1U);
    EXPECT_EQ(life.lapses[0].version, 2U);
    EXPECT_EQ(life.lapses[0].back_to, 1U);
    EXPECT_EQ(life.enforcer.lapsed_version(), 2U);
    EXPECT_FALSE(on_disk("policy.trial.pb"));
    life.enforcer.tick();
    EXPECT_EQ(life.lapses.size(), 1U);
}

TEST_F(TrialTest, SessionsAreJudgedAgainWhenItIsOver)
{
    auto& life = start_with_trial();
    const auto walks = kernel.adoptions;
    life.clock.advance(60s);
    life.enforcer.tick();
    EXPECT_GT(kernel.adoptions, walks);
}

TEST_F(TrialTest, ConfirmedItLastsAndIsWhatARebootBringsBack)
{
    {
        auto& life = start_with_trial();
        EXPECT_FALSE(life.enforcer.confirm(3));
        ASSERT_TRUE(life.enforcer.confirm(2));
        expect_in_force(2, false);
        EXPECT_TRUE(life.enforcer.confirm(2)) << "twice is no error";
        life.clock.advance(100s);
        life.enforcer.tick();
        expect_in_force(2, false);
        EXPECT_TRUE(life.lapses.empty());
    }
    kernel = {};
    auto& rebooted = start("another-boot");
    ASSERT_TRUE(rebooted.resume());
    expect_in_force(2, false);
    EXPECT_TRUE(rebooted.lapses.empty());
}

TEST_F(TrialTest, TooLateAConfirmationIsRefused)
{
    auto& life = start_with_trial();
    life.clock.advance(60s);
    EXPECT_FALSE(life.enforcer.confirm(2));
    expect_in_force(1, false);
    EXPECT_EQ(life.lapses.size(), 1U);
    EXPECT_FALSE(life.enforcer.try_out(state_of(2, "web/two"), PolicySource::controller, 60s)) << "it had its chance";
    EXPECT_TRUE(life.enforcer.try_out(state_of(3, "web/two"), PolicySource::controller, 60s));
    expect_in_force(3, true);
}

TEST_F(TrialTest, RollingBackDoesNotWait)
{
    auto& life = start_with_trial();
    ASSERT_TRUE(life.enforcer.roll_back());
    expect_in_force(1, false);
    EXPECT_TRUE(life.lapses.empty());
    EXPECT_FALSE(on_disk("policy.trial.pb"));
    EXPECT_FALSE(life.enforcer.roll_back());
}

TEST_F(TrialTest, MoreOfTheSameVersionDoesNotPutTheDeadlineOff)
{
    auto& life = start_with_trial();
    const auto until = *life.enforcer.trial_until();
    life.clock.advance(30s);
    auto more = state_of(2, "web/two");
    more.generation = 7;
    more.addresses[*IpAddress::parse("192.0.2.9")] = {1, "api-9"};
    ASSERT_TRUE(life.enforcer.try_out(more, PolicySource::controller, 60s));
    EXPECT_EQ(*life.enforcer.trial_until(), until);
    EXPECT_EQ(kernel.on_trial->until, until);
    auto same = more;
    same.generation = 8;
    const auto switches = kernel.switches;
    ASSERT_TRUE(life.enforcer.try_out(same, PolicySource::controller, 60s));
    EXPECT_EQ(kernel.switches, switches) << "the same again need not be told to the kernel";
    EXPECT_EQ(life.enforcer.state().generation, 8U);
    ASSERT_TRUE(life.enforcer.set_failsafes(failsafes("198.51.100.1")));
    EXPECT_EQ(kernel.on_trial->until, until);
    life.clock.advance(30s);
    life.enforcer.tick();
    expect_in_force(1, false);
    EXPECT_EQ(life.enforcer.view()->policy.rules.size(), 1 + failsafes("198.51.100.1").size())
        << "failsafes that changed meanwhile hold for the confirmed policy, too";
}

TEST_F(TrialTest, AnotherTrialFallsBackToWhatWasConfirmed)
{
    auto& life = start_with_trial();
    ASSERT_TRUE(life.enforcer.try_out(state_of(3, "web/three"), PolicySource::controller, 120s));
    expect_in_force(3, true);
    EXPECT_EQ(life.enforcer.confirmed_version(), 1U);
    life.clock.advance(120s);
    life.enforcer.tick();
    expect_in_force(1, false);
}

TEST_F(TrialTest, APolicyForGoodEndsIt)
{
    auto& life = start_with_trial();
    ASSERT_TRUE(life.enforcer.enforce(state_of(3, "web/three"), PolicySource::controller));
    expect_in_force(3, false);
    EXPECT_FALSE(on_disk("policy.trial.pb"));
    life.clock.advance(60s);
    life.enforcer.tick();
    expect_in_force(3, false);
    EXPECT_TRUE(life.lapses.empty());
}

TEST_F(TrialTest, TheSameForGoodConfirmsIt)
{
    auto& life = start_with_trial();
    const auto switches = kernel.switches;
    ASSERT_TRUE(life.enforcer.enforce(state_of(2, "web/two"), PolicySource::controller));
    expect_in_force(2, false);
    EXPECT_EQ(kernel.switches, switches);
}

TEST_F(TrialTest, TheConfirmedOneAgainRollsBack)
{
    auto& life = start_with_trial();
    const auto switches = kernel.switches;
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    expect_in_force(1, false);
    EXPECT_EQ(kernel.switches, switches) << "its planes are there still";
    EXPECT_FALSE(on_disk("policy.trial.pb"));
}

TEST_F(TrialTest, ARefusedOneChangesNothing)
{
    auto& life = start_with_trial();
    kernel.refusal = "map is full";
    EXPECT_FALSE(life.enforcer.try_out(state_of(3, "web/three"), PolicySource::controller, 60s));
    kernel.refusal.reset();
    expect_in_force(2, true);
    life.clock.advance(60s);
    life.enforcer.tick();
    expect_in_force(1, false);
}

TEST_F(TrialTest, OnAHostWithoutPolicyItFallsBackToNothing)
{
    auto& life = start();
    ASSERT_TRUE(life.resume());
    kernel.word.active_slot = BH_SLOT_NONE;
    ASSERT_TRUE(life.enforcer.try_out(state_of(1), PolicySource::controller, 60s));
    expect_in_force(1, true);
    life.clock.advance(60s);
    life.enforcer.tick();
    EXPECT_FALSE(life.enforcer.has_policy());
    EXPECT_FALSE(life.enforcer.plane_in_force());
    EXPECT_EQ(life.enforcer.view()->policy_version, 0U);
    EXPECT_EQ(life.lapses.at(0).back_to, 0U);
}

TEST_F(TrialTest, ARestartInItKnowsBothPolicies)
{
    start_with_trial();
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_in_force(2, true);
    EXPECT_EQ(second.enforcer.confirmed_version(), 1U);
    EXPECT_EQ(second.views.back()->fallback.lock()->generation, 1U);
    second.clock.advance(60s);
    second.enforcer.tick();
    expect_in_force(1, false);
    EXPECT_EQ(second.lapses.size(), 1U);
}

TEST_F(TrialTest, ARestartInItCanConfirm)
{
    start_with_trial();
    auto& second = start();
    ASSERT_TRUE(second.resume());
    ASSERT_TRUE(second.enforcer.confirm(2));
    auto& third = start();
    ASSERT_TRUE(third.resume());
    expect_in_force(2, false);
    EXPECT_TRUE(third.lapses.empty());
}

TEST_F(TrialTest, ARestartAfterItTellsTheLapse)
{
    start_with_trial();
    life_->clock.advance(60s); // nobody ticks: the agent is dead
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_in_force(1, false);
    ASSERT_EQ(second.lapses.size(), 1U);
    EXPECT_EQ(second.lapses[0].version, 2U);
    EXPECT_EQ(second.lapses[0].back_to, 1U);
    auto& third = start();
    ASSERT_TRUE(third.resume());
    EXPECT_TRUE(third.lapses.empty()) << "once";
}

TEST_F(TrialTest, ARebootInItBringsTheConfirmedOneBack)
{
    start_with_trial();
    kernel = {};
    auto& rebooted = start("another-boot");
    ASSERT_TRUE(rebooted.resume());
    expect_in_force(1, false);
    ASSERT_EQ(rebooted.lapses.size(), 1U);
    EXPECT_EQ(rebooted.lapses[0].version, 2U);
    EXPECT_FALSE(on_disk("policy.trial.pb"));
}

TEST_F(TrialTest, KilledBetweenTheSwitchAndTheSaveItIsKnown)
{
    auto& life = start();
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    const auto until = life.clock.monotonic() + 60s;
    ASSERT_TRUE(life.saved.prepare(
        {PolicySource::controller, kernel.next_generation(), boot, state_of(2, "web/two"), "", failsafes(), until}));
    ASSERT_TRUE(kernel.realise({nullptr, nullptr, {}, 0, until}));
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_in_force(2, true);
    EXPECT_TRUE(on_disk("policy.trial.pb"));
    EXPECT_FALSE(on_disk("policy.next.pb"));
    second.clock.advance(60s);
    second.enforcer.tick();
    expect_in_force(1, false);
}

TEST_F(TrialTest, KilledBetweenTheKernelsConfirmationAndTheSaveItIsConfirmed)
{
    start_with_trial();
    ASSERT_TRUE(kernel.confirm());
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_in_force(2, false);
    EXPECT_TRUE(second.lapses.empty());
    kernel = {};
    auto& rebooted = start("another-boot");
    ASSERT_TRUE(rebooted.resume());
    expect_in_force(2, false);
}

TEST_F(TrialTest, ConfirmedInTheKernelAloneItIsWhatAnUpgradeRealises)
{
    start_with_trial();
    ASSERT_TRUE(kernel.confirm());
    kernel.predecessors = kernel.word.generation;
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_in_force(2, false);
    EXPECT_TRUE(second.lapses.empty());
    EXPECT_FALSE(on_disk("policy.trial.pb"));
}

TEST_F(TrialTest, ATrialOfWhichNothingIsSavedEndsAtAStart)
{
    start_with_trial();
    std::filesystem::remove(dir / "policy.trial.pb");
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_in_force(1, false);
}

TEST_F(TrialTest, ADiskThatCannotBeWrittenDoesNotConfirmTheOneBefore)
{
    {
        auto& life = start_with_trial();
        std::filesystem::create_directory(dir / "policy.next.pb.tmp"); // nothing can be prepared
        ASSERT_TRUE(life.enforcer.try_out(state_of(3, "web/three"), PolicySource::controller, 60s));
        expect_in_force(3, true);
        ASSERT_TRUE(life.enforcer.confirm(3));
        std::filesystem::remove(dir / "policy.next.pb.tmp");
        for (int i = 0; i < 10; ++i)
            life.enforcer.tick();
    }
    auto& second = start();
    ASSERT_TRUE(second.resume());
    expect_in_force(3, false);
}

// Two policies of which each numbers the classes of processes in its own way.
class TrialFacetsTest : public TrialTest {
protected:
    using Rows = std::vector<std::pair<std::uint64_t, std::uint64_t>>; // a process, and how many the policy names

    static FacetTable running(std::uint64_t process)
    {
        FacetRow row;
        row.key.value = process;
        return {row};
    }
    // As many processes as the version is.
    static wire::HostState naming_processes(std::uint64_t version)
    {
        auto state = state_of(version);
        for (std::uint64_t i = 0; i < version; ++i)
            state.policy.processes.emplace_back().user = "user" + std::to_string(i);
        return state;
    }
    // Version 1 (generation 1) confirmed, version 2 (generation 2) on trial for a minute; process 1000 runs.
    Life& start_with_processes()
    {
        auto& life = start();
        life.subjects.table = running(1000);
        EXPECT_TRUE(life.resume());
        EXPECT_TRUE(life.enforcer.enforce(naming_processes(1), PolicySource::controller));
        EXPECT_TRUE(life.enforcer.try_out(naming_processes(2), PolicySource::controller, 60s));
        EXPECT_EQ(told(1), (Rows{{1000, 1}}));
        EXPECT_EQ(told(2), (Rows{{1000, 2}}));
        return life;
    }
    [[nodiscard]] Rows told(std::uint32_t generation) const
    {
        Rows rows;
        for (const auto& row : kernel.facets_of.at(generation))
            rows.emplace_back(row.key.value, row.classes.word[0]);
        return rows;
    }
    void expect_told_anew(std::uint32_t generation)
    {
        life_->enforcer.tick();
        EXPECT_EQ(told(generation), (Rows{{1000, generation}}));
        const auto updates = kernel.facet_updates.size();
        life_->enforcer.tick();
        EXPECT_EQ(kernel.facet_updates.size(), updates) << "once";
    }
};

TEST_F(TrialFacetsTest, ThoseOfWhatItFallsBackToAreKeptUpToDate)
{
    auto& life = start_with_processes();
    life.subjects.table = running(1001);
    life.enforcer.tick();
    life.enforcer.tick();
    EXPECT_EQ(kernel.facet_updates.size(), 2U);
    EXPECT_EQ(told(1), (Rows{{1001, 1}}));
    EXPECT_EQ(told(2), (Rows{{1001, 2}}));
}

TEST_F(TrialFacetsTest, ANewCgroupIsToldToBoth)
{
    auto& life = start_with_processes();
    life.subjects.new_cgroups = running(7);
    life.enforcer.look_at_cgroups();
    life.enforcer.look_at_cgroups();
    EXPECT_EQ(kernel.facet_updates.size(), 2U);
    EXPECT_EQ(told(1), (Rows{{1000, 1}, {7, 0}}));
    EXPECT_EQ(told(2), (Rows{{1000, 2}, {7, 0}}));
}

TEST_F(TrialFacetsTest, TheDeadlineMayPassWhileProcessesAreLookedUp)
{
    auto& life = start_with_processes();
    life.clock.advance(59s);
    life.subjects.table = running(1001);
    life.subjects.while_looking = [&life] { life.clock.advance(1s); };
    life.enforcer.tick();
    EXPECT_EQ(kernel.trial().phase, TrialState::Phase::lapsed);
    EXPECT_EQ(told(1), (Rows{{1001, 1}})) << "what is in force knows the processes of now, by its own numbers";
    EXPECT_EQ(told(2), (Rows{{1000, 2}}));
    life.enforcer.tick();
    expect_in_force(1, false);
    EXPECT_EQ(life.lapses.size(), 1U);
    EXPECT_EQ(told(1), (Rows{{1001, 1}}));
    life.subjects.table = running(1002);
    life.enforcer.tick();
    EXPECT_EQ(told(1), (Rows{{1002, 1}}));
}

TEST_F(TrialFacetsTest, TheyAreToldAnewHoweverItEnded)
{
    auto& life = start_with_processes();
    kernel.facets_of[1].clear(); // which no agent can know
    life.clock.advance(60s);
    expect_told_anew(1);
    ASSERT_TRUE(life.enforcer.try_out(naming_processes(3), PolicySource::controller, 60s));
    kernel.facets_of[1].clear();
    ASSERT_TRUE(life.enforcer.roll_back());
    expect_told_anew(1);
    ASSERT_TRUE(life.enforcer.try_out(naming_processes(3), PolicySource::controller, 60s));
    kernel.facets_of[1].clear();
    ASSERT_TRUE(life.enforcer.enforce(naming_processes(1), PolicySource::controller));
    expect_told_anew(1);
}

TEST_F(TrialFacetsTest, TheyAreToldAnewWhenItIsConfirmed)
{
    auto& life = start_with_processes();
    kernel.facets_of[2].clear();
    ASSERT_TRUE(life.enforcer.confirm(2));
    expect_told_anew(2);
}

TEST_F(TrialFacetsTest, WhatCannotBeWrittenIsWrittenLaterThoughProcessesAreWhatTheyWere)
{
    auto& life = start_with_processes();
    kernel.facets_fail = true;
    life.subjects.table = running(1001);
    life.enforcer.tick();
    EXPECT_EQ(told(1), Rows{});
    kernel.facets_fail = false;
    life.subjects.table = running(1000);
    life.enforcer.tick();
    EXPECT_EQ(told(1), (Rows{{1000, 1}}));
    EXPECT_EQ(told(2), (Rows{{1000, 2}}));
}

TEST_F(TrialFacetsTest, AStartInItTellsBothWhateverTheAgentBeforeHasTold)
{
    start_with_processes();
    auto& second = start();
    ASSERT_TRUE(second.subjects.table.empty());
    ASSERT_TRUE(second.resume());
    expect_in_force(2, true);
    EXPECT_EQ(told(1), Rows{});
    EXPECT_EQ(told(2), Rows{});
    auto& third = start();
    third.subjects.table = running(1001);
    third.subjects.while_looking = [&third] { third.clock.advance(60s); };
    ASSERT_TRUE(third.resume());
    EXPECT_EQ(told(1), (Rows{{1001, 1}}));
    EXPECT_EQ(told(2), Rows{}) << "it is over";
    third.enforcer.tick();
    expect_in_force(1, false);
    EXPECT_EQ(told(1), (Rows{{1001, 1}}));
}

} // namespace
} // namespace bulkhead::agent
