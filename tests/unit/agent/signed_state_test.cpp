// SPDX-License-Identifier: Apache-2.0
// Signatures of policies on the disk: kept with their policies through everything that is done to these, and verified
// by the next start.
#include "agent/state/atomic_file.h"
#include "agent/state/authority.h"
#include "agent/state/sealed_bytes.h"
#include "tests/unit/agent/enforcer_life.h"
#include "tests/unit/agent/signing_authority.h"

#include <gmock/gmock.h>

#include <filesystem>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* next_boot = "next-boot";

class SignedState : public ::testing::Test {
protected:
    SignedState() { EXPECT_TRUE(save_authority(dir.path(), authority.certificate())); }

    Status enforce(Life& life, const wire::HostState& state)
    {
        return life.enforcer.enforce(state, PolicySource::controller, authority.sign(state));
    }
    // Two policies, one after the other; then the host goes down.
    void live_once()
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(enforce(life, state_of(1)));
        ASSERT_TRUE(enforce(life, state_of(2, "web/other")));
    }
    void reboot() { kernel.word = {BH_SLOT_NONE, BH_SLOT_NONE, BH_ABI_VERSION, 0, 0}; }
    [[nodiscard]] SavedPolicy read(const std::string& name) const
    {
        const auto bytes = read_file_if_there(dir / name);
        const auto saved = bytes && *bytes ? decode_saved_policy(**bytes) : Result<SavedPolicy>();
        EXPECT_TRUE(saved) << name;
        return saved ? *saved : SavedPolicy{};
    }
    void write(const std::string& name, const SavedPolicy& policy) const { dir.file(name, encode(policy)); }
    void expect_signed(const std::string& name, std::uint64_t version) const
    {
        const auto saved = read(name);
        EXPECT_EQ(saved.state.policy_version, version);
        EXPECT_TRUE(verify_policy(authority.certificate(), saved.state, saved.signature)) << name;
    }
    // A rule is added, as by somebody who can write a checksum, too.
    void tamper(const std::string& name) const
    {
        auto saved = read(name);
        ASSERT_FALSE(saved.state.policy.rules.empty());
        saved.state.policy.rules.push_back(saved.state.policy.rules[0]);
        write(name, saved);
    }

    test::TempDir dir;
    test::ScriptedDatapath kernel;
    test::SigningAuthority authority, another;
};

TEST_F(SignedState, IsUsedByTheNextStartAndSignedStill)
{
    live_once();
    reboot();
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(2, "web/other"));
    EXPECT_THAT(second.enforcer.damage(), IsEmpty());
    expect_signed("policy.pb", 2);
    expect_signed("policy.previous.pb", 1);
}

TEST_F(SignedState, APolicyThatIsNotWhatWasSignedGivesWayToTheOneBefore)
{
    live_once();
    reboot();
    tamper("policy.pb");
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(1));
    EXPECT_THAT(second.enforcer.damage(), Contains(HasSubstr("not signed by the authority of this host's controller")));
    EXPECT_THAT(second.enforcer.damage(), Contains(HasSubstr("set aside as " + (dir / "policy.pb.damaged"))));
    EXPECT_THAT(second.enforcer.damage(), Contains(HasSubstr("version 1, the one before it, is enforced")));
}

TEST_F(SignedState, OfTwoThatAreNotWhatWasSignedNeitherIsUsed)
{
    live_once();
    reboot();
    tamper("policy.pb");
    tamper("policy.previous.pb");
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_FALSE(second.enforcer.plane_in_force());
    EXPECT_EQ(second.enforcer.damage().size(), 2U);
}

TEST_F(SignedState, APolicyOfAnotherAuthorityIsSetAside)
{
    live_once();
    reboot();
    auto saved = read("policy.pb");
    saved.signature = another.sign(saved.state);
    write("policy.pb", saved);
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(1));
}

TEST_F(SignedState, WhatThePinnedPlanesAreIsNotLearntFromATamperedFile)
{
    live_once();
    tamper("policy.pb");
    const auto generation = kernel.word.generation;
    Life second(kernel, dir.path());
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(kernel.word.generation, generation) << "it goes on";
    EXPECT_FALSE(second.enforcer.has_policy());
}

TEST_F(SignedState, WithoutTheCertificateThePolicyIsUsedAndThatIsTold)
{
    live_once();
    for (const bool there : {false, true}) {
        reboot();
        std::filesystem::remove(dir / "ca.pem");
        if (there)
            dir.file("ca.pem", "rubbish");
        Life second(kernel, dir.path(), next_boot);
        ASSERT_TRUE(second.resume());
        EXPECT_EQ(second.enforcer.state(), state_of(2, "web/other"));
        EXPECT_THAT(second.enforcer.damage(),
                    Contains(HasSubstr("used, though its signature cannot be verified: " + (dir / "ca.pem"))));
        EXPECT_TRUE(std::filesystem::exists(dir / "policy.pb"));
    }
}

TEST_F(SignedState, AfterAChangeOfControllerThePolicyOfTheOneBeforeIsUsedUntilTheNewOneHasSentIts)
{
    live_once();
    reboot();
    ASSERT_TRUE(save_authority(dir.path(), another.certificate()));
    ASSERT_TRUE(save_authority(dir.path(), another.certificate())); // a renewal: no other authority
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    ASSERT_EQ(second.enforcer.state(), state_of(2, "web/other"));
    EXPECT_THAT(second.enforcer.damage(), IsEmpty());
    reboot();
    tamper("policy.pb"); // the one before it is of the same authority
    Life third(kernel, dir.path(), "and another");
    ASSERT_TRUE(third.resume());
    EXPECT_THAT(third.enforcer.damage(), Contains(HasSubstr("set aside")));
    EXPECT_EQ(third.enforcer.state(), state_of(1));
}

TEST_F(SignedState, IsVerifiedAfterSeveralChangesOfController)
{
    live_once();
    for (int i = 0; i < 3; ++i)
        ASSERT_TRUE(save_authority(dir.path(), test::SigningAuthority().certificate()));
    ASSERT_TRUE(save_authority(dir.path(), another.certificate()));
    reboot();
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(2, "web/other"));
    EXPECT_THAT(second.enforcer.damage(), IsEmpty());
}

TEST_F(SignedState, IsUsedWhereTheAuthorityBeforeCouldNotBeReadAndThatIsTold)
{
    live_once();
    dir.file("ca.pem", "rubbish");
    ASSERT_TRUE(save_authority(dir.path(), another.certificate()));
    ASSERT_TRUE(save_authority(dir.path(), test::SigningAuthority().certificate()));
    reboot();
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(2, "web/other"));
    EXPECT_THAT(second.enforcer.damage(), Contains(HasSubstr("used, though its signature cannot be verified: " +
                                                             (dir / "ca.previous.pem"))));
}

TEST_F(SignedState, IsUsedWhereTheCertificatesBeforeAreDamaged)
{
    live_once();
    ASSERT_TRUE(save_authority(dir.path(), another.certificate()));
    for (const char* damaged : {"rubbish", "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}) {
        reboot();
        dir.file("ca.previous.pem", damaged);
        Life life(kernel, dir.path(), next_boot);
        ASSERT_TRUE(life.resume());
        EXPECT_EQ(life.enforcer.state(), state_of(2, "web/other")) << damaged;
        EXPECT_THAT(life.enforcer.damage(), Contains(HasSubstr("cannot be verified"))) << damaged;
    }
}

TEST_F(SignedState, APolicyFromBeforeThereWereSignaturesIsUsedAtEveryStartUntilASignedOneComes)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller)); // as an older agent took it
    }
    EXPECT_TRUE(read_file_if_there(dir / "policy.pb")->value().starts_with("BHPOL2\n"));
    for (const char* boot_id : {next_boot, "and another"}) {
        reboot();
        Life life(kernel, dir.path(), boot_id);
        ASSERT_TRUE(life.resume());
        EXPECT_EQ(life.enforcer.state(), state_of(1));
        EXPECT_THAT(life.enforcer.damage(), IsEmpty());
    }
    Life last(kernel, dir.path(), "and another");
    ASSERT_TRUE(last.resume());
    ASSERT_TRUE(enforce(last, state_of(1))); // the same, but for the signature
    EXPECT_TRUE(read_file_if_there(dir / "policy.pb")->value().starts_with("BHPOL3\n"));
    expect_signed("policy.pb", 1);
}

TEST_F(SignedState, AFolderNeedsNoSignature)
{
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::folder));
    }
    reboot();
    Life second(kernel, dir.path(), next_boot);
    ASSERT_TRUE(second.resume());
    EXPECT_EQ(second.enforcer.state(), state_of(1));
    EXPECT_THAT(second.enforcer.damage(), IsEmpty());
}

TEST_F(SignedState, ASignatureCannotBeLeftOutOfTheFormatThatHasOne)
{
    SavedPolicy saved;
    saved.source = PolicySource::controller;
    saved.state = state_of(1);
    saved.signature = authority.sign(saved.state);
    const auto bytes = encode(saved);
    ASSERT_EQ(decode_saved_policy(bytes), saved);
    constexpr std::size_t checksum = 32, length = 4;
    const auto before = bytes.substr(0, bytes.size() - checksum - saved.signature.size() - length);
    EXPECT_FALSE(decode_saved_policy(seal(before)));
    EXPECT_FALSE(decode_saved_policy(seal(before + std::string(length, '\0'))));
}

TEST_F(SignedState, TravelsThroughChangesOfFailsafesVersionsAndQuarantines)
{
    live_once();
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume(failsafes("192.0.2.9")));
    expect_signed("policy.pb", 2);
    auto relabelled = state_of(3, "web/other");
    ASSERT_TRUE(enforce(life, relabelled));
    expect_signed("policy.pb", 3);
    ASSERT_TRUE(life.enforcer.set_quarantine({QuarantineHold{"admin", "why", 1, 0}, std::nullopt}));
    ASSERT_TRUE(enforce(life, state_of(4)));
    expect_signed("policy.pb", 4);
    {
        Life during(kernel, dir.path());
        ASSERT_TRUE(during.resume());
        ASSERT_TRUE(during.enforcer.quarantined());
        ASSERT_TRUE(during.enforcer.set_quarantine({}));
        EXPECT_EQ(during.enforcer.state(), state_of(4));
    }
    expect_signed("policy.pb", 4);
}

TEST_F(SignedState, TravelsThroughATrial)
{
    live_once();
    const auto tried = state_of(3, "web/three");
    {
        Life life(kernel, dir.path());
        ASSERT_TRUE(life.resume());
        ASSERT_TRUE(life.enforcer.try_out(tried, PolicySource::controller, 60s, authority.sign(tried)));
        expect_signed("policy.trial.pb", 3);
        expect_signed("policy.pb", 2);
    }
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume(failsafes("192.0.2.9"))); // the trial is realised again, with other failsafes
    expect_signed("policy.trial.pb", 3);
    auto more = tried;
    more.generation = 4;
    ASSERT_TRUE(life.enforcer.try_out(more, PolicySource::controller, 60s, authority.sign(more)));
    expect_signed("policy.trial.pb", 3);
    EXPECT_EQ(read("policy.trial.pb").state.generation, 4U);
    ASSERT_TRUE(life.enforcer.confirm(3));
    expect_signed("policy.pb", 3);
}

TEST_F(SignedState, IsSavedLateToo)
{
    live_once();
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    dir.folder("policy.next.pb.tmp"); // cannot be opened for writing
    ASSERT_TRUE(enforce(life, state_of(3)));
    ASSERT_TRUE(life.enforcer.unsaved());
    std::filesystem::remove(dir / "policy.next.pb.tmp");
    for (int i = 0; i < 10; ++i)
        life.enforcer.tick();
    EXPECT_FALSE(life.enforcer.unsaved());
    expect_signed("policy.pb", 3);
}

} // namespace
} // namespace bulkhead::agent
