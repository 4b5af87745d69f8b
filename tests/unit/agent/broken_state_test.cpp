// SPDX-License-Identifier: Apache-2.0
// A state folder that is damaged, missing or read-only: the host is neither locked out nor left without its policy.
#include "agent/state/locks.h"
#include "tests/unit/agent/enforcer_life.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* rubbish = "BHPOL2\nnonsense that is long enough to hold a checksum, but holds none at all";
constexpr const char* next_boot = "next-boot";

class BrokenState : public ::testing::Test {
protected:
    // Two policies, one after the other; then the host goes down.
    void live_once()
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
        ASSERT_TRUE(life.enforcer.enforce(state_of(2, "web/other"), PolicySource::controller));
    }
    void reboot() { kernel.word = {BH_SLOT_NONE, BH_SLOT_NONE, BH_ABI_VERSION, 0, 0}; }

    test::TempDir dir;
    test::ScriptedDatapath kernel;
};

TEST_F(BrokenState, ThePolicyBeforeADamagedOneIsEnforcedAndToldUntilANewerOneComes)
{
    live_once();
    reboot();
    dir.file("policy.pb", rubbish);
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_TRUE(second.enforcer.plane_in_force());
    EXPECT_EQ(second.enforcer.state(), state_of(1));
    EXPECT_THAT(second.enforcer.damage(), Contains(HasSubstr("set aside as " + (dir / "policy.pb.damaged"))));
    EXPECT_THAT(second.enforcer.damage(), Contains(HasSubstr("version 1, the one before it, is enforced")));
    ASSERT_TRUE(second.enforcer.enforce(state_of(3), PolicySource::controller));
    EXPECT_THAT(second.enforcer.damage(), IsEmpty());
}

TEST_F(BrokenState, ThePolicyBeforeIsEnforcedAgainByTheNextStart)
{
    live_once();
    reboot();
    std::filesystem::remove(dir / "policy.pb");
    {
        Life second(kernel, dir.path(), next_boot);
        ASSERT_TRUE(second.resume());
    }
    reboot();
    Life third(kernel, dir.path(), "and another");
    ASSERT_TRUE(third.resume());
    EXPECT_EQ(third.enforcer.state(), state_of(1));
    EXPECT_THAT(third.enforcer.damage(), IsEmpty());
}

TEST_F(BrokenState, AFolderInThePlaceOfThePolicyIsSetAside)
{
    live_once();
    reboot();
    std::filesystem::remove(dir / "policy.pb");
    dir.file("policy.pb/within", "x");
    {
        Life second(kernel, dir.path(), next_boot);
        ASSERT_TRUE(second.resume());
        EXPECT_EQ(second.enforcer.state(), state_of(1));
        ASSERT_TRUE(second.enforcer.enforce(state_of(3), PolicySource::controller));
        EXPECT_FALSE(second.enforcer.unsaved());
    }
    EXPECT_TRUE(std::filesystem::is_regular_file(dir / "policy.pb"));
}

TEST_F(BrokenState, APolicyThatCannotBeRealisedAnyMoreGivesWayToTheOneBefore)
{
    live_once();
    reboot();
    unsigned tries = 0;
    kernel.during_switch = [&] {
        kernel.refusal = ++tries == 1 ? std::optional<std::string>("map is full") : std::nullopt;
    };
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(1));
    EXPECT_THAT(second.enforcer.damage(), Contains(HasSubstr("map is full")));
}

TEST_F(BrokenState, WhatABootWritesAgainIsNoSpareForItself)
{
    live_once();
    for (const char* boot_id : {next_boot, "and another"}) {
        reboot();
        Life life(kernel, dir.path(), boot_id);
        ASSERT_TRUE(life.resume());
        EXPECT_EQ(life.enforcer.state(), state_of(2, "web/other"));
    }
    reboot();
    dir.file("policy.pb", rubbish);
    Life last(kernel, dir.path(), "the last");
    ASSERT_TRUE(last.resume());
    EXPECT_EQ(last.enforcer.state(), state_of(1));
}

TEST_F(BrokenState, WhatTheKernelEnforcesIsNotReplacedByAnOlderPolicy)
{
    live_once();
    dir.file("policy.pb", rubbish);
    const auto generation = kernel.word.generation;
    Life second(kernel, dir.path());
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(kernel.word.generation, generation);
    EXPECT_FALSE(second.enforcer.has_policy());
}

TEST_F(BrokenState, AllDamagedIsToldAndEnforcesNothing)
{
    live_once();
    reboot();
    for (const char* name : {"policy.pb", "policy.previous.pb", "policy.next.pb", "policy.trial.pb"})
        dir.file(name, rubbish);
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_FALSE(second.enforcer.plane_in_force());
    EXPECT_EQ(second.enforcer.damage().size(), 4U);
}

TEST_F(BrokenState, ADamagedQuarantineFileHoldsTheHostInQuarantineAlsoAfterTheNextStart)
{
    live_once();
    reboot();
    dir.file("quarantine.pb", "BHQUA1\nnonsense");
    for (const char* boot_id : {next_boot, "and another"}) {
        Life life(kernel, dir.path(), boot_id);
        ASSERT_TRUE(life.resume());
        EXPECT_TRUE(life.enforcer.quarantined());
        EXPECT_EQ(life.enforcer.quarantine().local->by, "bulkheadd");
        EXPECT_EQ(life.enforcer.state().policy_version, 2U); // for the time after it
        reboot();
    }
}

TEST_F(BrokenState, AQuarantineFileThatIsThereAndCannotBeReadHoldsTheHostToo)
{
    live_once();
    reboot();
    dir.folder("quarantine.pb");
    for (const char* boot_id : {next_boot, "and another"}) {
        Life life(kernel, dir.path(), boot_id);
        ASSERT_TRUE(life.resume());
        EXPECT_TRUE(life.enforcer.quarantined());
        reboot();
    }
}

TEST_F(BrokenState, AFileInThePlaceOfTheStateFolderIsSetAside)
{
    const auto state = dir.file("state", "rubbish");
    ASSERT_TRUE(prepare_state_dir(state));
    EXPECT_TRUE(std::filesystem::is_directory(state));
    EXPECT_TRUE(std::filesystem::is_regular_file(state + ".damaged"));
}

TEST_F(BrokenState, NothingInAFileInThePlaceOfTheStateFolderIsNoQuarantine)
{
    Life life(kernel, dir.file("state", "rubbish"));
    ASSERT_TRUE(life.resume());
    EXPECT_FALSE(life.enforcer.quarantined());
}

TEST_F(BrokenState, AFolderInThePlaceOfTheLockIsLocked)
{
    dir.folder("lock");
    const auto first = lock_state_dir(dir.path());
    ASSERT_TRUE(first);
    EXPECT_EQ(lock_state_dir(dir.path()).error().kind, ErrorKind::refused);
}

// A file system of its own that can be made read-only or full. Needs root.
class BrokenDisk : public BrokenState {
protected:
    void SetUp() override
    {
        if (::mount("bulkhead-test", dir.path().c_str(), "tmpfs", 0, "size=256k") != 0)
            GTEST_SKIP() << "needs root: mount(2)";
        mounted_ = true;
    }
    ~BrokenDisk() override
    {
        if (mounted_)
            ::umount2(dir.path().c_str(), MNT_DETACH);
    }
    void make_read_only()
    {
        ASSERT_EQ(::mount(nullptr, dir.path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, "size=256k"), 0);
    }
    void fill()
    {
        std::ofstream filler(dir / "filler", std::ios::binary);
        while (filler.write(std::string(4096, 'x').data(), 4096).flush()) {
        }
    }

private:
    bool mounted_ = false;
};

TEST_F(BrokenDisk, OnAReadOnlyDiskTheSavedPolicyIsEnforcedAndASecondAgentRefused)
{
    live_once();
    reboot();
    make_read_only();
    EXPECT_FALSE(prepare_state_dir(dir.path()));
    const auto lock = lock_state_dir(dir.path());
    ASSERT_TRUE(lock) << lock.error().message;
    EXPECT_EQ(lock_state_dir(dir.path()).error().kind, ErrorKind::refused);
    EXPECT_FALSE(standalone_agent_id(dir.path()));
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(2, "web/other"));
    EXPECT_TRUE(second.enforcer.unsaved());
    ASSERT_TRUE(second.enforcer.enforce(state_of(3), PolicySource::controller));
    EXPECT_EQ(second.enforcer.state(), state_of(3));
}

TEST_F(BrokenDisk, ADamagedPolicyOnAReadOnlyDiskStaysAndTheOneBeforeIsEnforced)
{
    live_once();
    reboot();
    dir.file("policy.pb", rubbish);
    make_read_only();
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(1));
    EXPECT_THAT(second.enforcer.damage(), Contains(HasSubstr("it cannot be set aside: Read-only file system")));
}

TEST_F(BrokenDisk, OnAFullDiskTheOldFilesStayWhole)
{
    live_once();
    fill();
    {
        Life second(kernel, dir.path());
        ASSERT_TRUE(second.resume());
        auto large = state_of(3);
        large.policy.segments = {std::string(64 << 10, 's')};
        ASSERT_TRUE(second.enforcer.enforce(std::move(large), PolicySource::controller));
        EXPECT_TRUE(second.enforcer.unsaved());
    }
    reboot();
    Life third(kernel, dir.path(), next_boot);
    ASSERT_TRUE(third.resume());
    EXPECT_EQ(third.enforcer.state(), state_of(2, "web/other"));
}

} // namespace
} // namespace bulkhead::agent
