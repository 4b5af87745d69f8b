// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/signed_update.h"

#include "tests/unit/agent/enforcer_life.h"
#include "tests/unit/agent/signing_authority.h"

#include <gmock/gmock.h>

namespace bulkhead::agent {
namespace {

using ::testing::HasSubstr;

class SignedUpdate : public ::testing::Test {
protected:
    [[nodiscard]] v1::PolicyUpdate snapshot() const
    {
        auto update = wire::snapshot_of(next);
        update.set_signature(authority.sign(next));
        return update;
    }
    [[nodiscard]] v1::PolicyUpdate delta() const
    {
        auto update = wire::delta_between(held, next);
        update.set_signature(authority.sign(next));
        return update;
    }
    [[nodiscard]] Result<wire::HostState> apply(const v1::PolicyUpdate& update) const
    {
        return apply_signed_update(held, update, authority.certificate());
    }
    void expect_refused(const v1::PolicyUpdate& update, const char* why, ErrorKind kind = ErrorKind::refused) const
    {
        const auto applied = apply(update);
        ASSERT_FALSE(applied);
        EXPECT_EQ(applied.error().kind, kind) << applied.error().message;
        EXPECT_THAT(applied.error().message, HasSubstr(why));
    }

    test::SigningAuthority authority, another;
    wire::HostState held = state_of(1), next = state_of(2, "web/other");
};

TEST_F(SignedUpdate, LeadsToWhatWasSigned)
{
    const auto whole = apply(snapshot());
    ASSERT_TRUE(whole) << whole.error().message;
    EXPECT_EQ(*whole, next);
    const auto changed = apply(delta());
    ASSERT_TRUE(changed) << changed.error().message;
    EXPECT_EQ(*changed, next);
}

TEST_F(SignedUpdate, WhatIsLeftOfATrialIsNotPartOfIt)
{
    auto update = snapshot();
    update.set_trial_ms(1234);
    EXPECT_TRUE(apply(update));
}

TEST_F(SignedUpdate, AnUnsignedOneIsRefusedAndNoOtherAskedFor)
{
    for (auto update : {snapshot(), delta()}) {
        update.clear_signature();
        expect_refused(update, "version 2 is not signed");
    }
}

TEST_F(SignedUpdate, TheSignatureOfAnotherAuthorityIsRefused)
{
    auto update = snapshot();
    update.set_signature(another.sign(next));
    expect_refused(update, "not signed by the authority");
}

TEST_F(SignedUpdate, TheSignatureOfAnotherPolicyIsRefused)
{
    auto update = snapshot();
    update.set_signature(authority.sign(held));
    expect_refused(update, "not signed by the authority");
    update.set_signature(authority.sign(next, "another purpose"));
    expect_refused(update, "not signed by the authority");
}

TEST_F(SignedUpdate, WhatWasChangedOnTheWayIsRefused)
{
    auto update = snapshot();
    update.mutable_host_policy()->mutable_rules(0)->set_any_peer(true);
    expect_refused(update, "not signed by the authority");
    update = snapshot();
    update.mutable_upsert_addresses(0)->set_identity(7);
    expect_refused(update, "not signed by the authority");
    update = snapshot();
    update.set_policy_version(3);
    expect_refused(update, "not signed by the authority");
}

// The base may be another one than the controller means, which a snapshot mends; if not, that is refused.
TEST_F(SignedUpdate, ADeltaThatLeadsElsewhereAsksForEverything)
{
    auto update = delta();
    update.set_policy_version(3);
    expect_refused(update, "need snapshot", ErrorKind::failed);
    update = delta();
    held.addresses.clear(); // as by a fault of ours
    expect_refused(update, "need snapshot", ErrorKind::failed);
    EXPECT_TRUE(apply(snapshot()));
}

TEST_F(SignedUpdate, WithoutTheAuthoritysCertificateNothingIsTaken)
{
    for (const auto& update : {snapshot(), delta()}) {
        const auto applied = apply_signed_update(held, update, "rubbish");
        ASSERT_FALSE(applied);
        EXPECT_EQ(applied.error().kind, ErrorKind::refused) << "a snapshot would not help";
        EXPECT_THAT(applied.error().message, HasSubstr("cannot be verified"));
    }
}

} // namespace
} // namespace bulkhead::agent
