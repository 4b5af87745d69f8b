// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls.h"

#include <gtest/gtest.h>

namespace bulkhead::tls {
namespace {

const std::string fingerprint(64, 'a');

TEST(JoinToken, EverySecretSurvivesTheRoundTrip)
{
    for (std::size_t size = 1; size <= 40; ++size) {
        std::string secret;
        for (std::size_t i = 0; i < size; ++i)
            secret += static_cast<char>(251 * i + size);
        const auto text = encode_join_token({secret, fingerprint});
        const auto token = decode_join_token(text);
        ASSERT_TRUE(token) << text << ": " << token.error().message;
        EXPECT_EQ(token->secret, secret);
        EXPECT_EQ(token->ca_fingerprint, fingerprint);
    }
}

TEST(JoinToken, SpaceAroundATokenFromAFileIsIgnored)
{
    const auto text = encode_join_token({"secret", fingerprint});
    const auto token = decode_join_token("  " + text + "\r\n");
    ASSERT_TRUE(token) << token.error().message;
    EXPECT_EQ(token->secret, "secret");
}

TEST(JoinToken, MalformedTextIsAUsageErrorWithAMend)
{
    const auto good = encode_join_token({"secret", fingerprint});
    const std::vector<std::string> bad = {
        "",
        "bulkhead-join-1.",
        "bulkhead-join-2." + good.substr(16),
        good.substr(0, good.size() - 1),
        good + "0",
        "bulkhead-join-1.." + fingerprint,
        "bulkhead-join-1.a+b/." + fingerprint,
        "bulkhead-join-1.abcde." + fingerprint,
        "bulkhead-join-1.c2VjcmV0." + std::string(64, 'A'),
        "bulkhead-join-1." + std::string(4000, 'a') + "." + fingerprint,
        good.substr(0, 20) + "\n" + good.substr(20),
    };
    for (const auto& text : bad) {
        const auto token = decode_join_token(text);
        ASSERT_FALSE(token) << text;
        EXPECT_EQ(token.error().kind, ErrorKind::usage);
        EXPECT_FALSE(token.error().mend.empty());
    }
}

} // namespace
} // namespace bulkhead::tls
