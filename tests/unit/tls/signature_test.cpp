// SPDX-License-Identifier: Apache-2.0
#include "common/tls/signature.h"

#include "common/tls/authority.h"

#include <gtest/gtest.h>

namespace bulkhead::tls {
namespace {

const auto now = std::chrono::system_clock::from_time_t(1'800'000'000);

class SignatureTest : public testing::Test {
protected:
    void SetUp() override
    {
        for (auto* authority : {&ours, &theirs}) {
            auto made = make_authority(now, std::chrono::hours(24));
            ASSERT_TRUE(made) << made.error().message;
            *authority = std::move(*made);
        }
    }
    std::string sign(std::string_view context, std::string_view message)
    {
        const auto signer = Signer::create(ours.key_pem);
        EXPECT_TRUE(signer);
        const auto signature = signer->sign(context, message);
        EXPECT_TRUE(signature);
        return *signature;
    }
    ErrorKind refusal(const std::string& certificate, std::string_view context, std::string_view message,
                      std::string_view signature)
    {
        const auto verified = verify_signature(certificate, context, message, signature);
        EXPECT_FALSE(verified);
        return verified ? ErrorKind::usage : verified.error().kind;
    }

    KeyAndCertificate ours, theirs;
};

TEST_F(SignatureTest, HoldsForThatMessageInThatContextByThatAuthorityOnly)
{
    const auto signature = sign("policy", "digest");
    EXPECT_TRUE(verify_signature(ours.certificate_pem, "policy", "digest", signature));
    EXPECT_EQ(refusal(ours.certificate_pem, "policy", "digesu", signature), ErrorKind::refused);
    EXPECT_EQ(refusal(ours.certificate_pem, "another", "digest", signature), ErrorKind::refused);
    EXPECT_EQ(refusal(ours.certificate_pem, "policydigest", "", signature), ErrorKind::refused);
    EXPECT_EQ(refusal(theirs.certificate_pem, "policy", "digest", signature), ErrorKind::refused);
}

TEST_F(SignatureTest, EveryFlippedByteAndEveryCutIsNoticed)
{
    const auto good = sign("policy", std::string_view("\0\x01", 2));
    ASSERT_TRUE(verify_signature(ours.certificate_pem, "policy", std::string_view("\0\x01", 2), good));
    for (std::size_t i = 0; i < good.size(); ++i) {
        auto bad = good;
        bad[i] = static_cast<char>(bad[i] ^ 1);
        EXPECT_EQ(refusal(ours.certificate_pem, "policy", std::string_view("\0\x01", 2), bad), ErrorKind::refused) << i;
        EXPECT_EQ(refusal(ours.certificate_pem, "policy", std::string_view("\0\x01", 2), good.substr(0, i)),
                  ErrorKind::refused)
            << i;
    }
}

TEST_F(SignatureTest, ACertificateThatCannotBeReadIsAnotherFaultThanABadSignature)
{
    EXPECT_EQ(refusal("rubbish", "policy", "digest", sign("policy", "digest")), ErrorKind::failed);
    EXPECT_FALSE(Signer::create("rubbish"));
}

} // namespace
} // namespace bulkhead::tls
