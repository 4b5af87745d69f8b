// SPDX-License-Identifier: Apache-2.0
#include "common/tls/authority.h"
#include "common/tls/tls.h"

#include <gtest/gtest.h>

#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <memory>
#include <set>

namespace bulkhead::tls {
namespace {

using std::chrono::hours;
using std::chrono::system_clock;

const auto now = system_clock::from_time_t(1'800'000'000);

std::unique_ptr<X509, decltype(&X509_free)> parse(const std::string& pem)
{
    std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())),
                                                      BIO_free_all);
    return {PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr), X509_free};
}

std::string request_by(EVP_PKEY* subject, EVP_PKEY* signer)
{
    std::unique_ptr<X509_REQ, decltype(&X509_REQ_free)> request(X509_REQ_new(), X509_REQ_free);
    X509_REQ_set_pubkey(request.get(), subject);
    X509_REQ_sign(request.get(), signer, EVP_sha256());
    std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new(BIO_s_mem()), BIO_free_all);
    PEM_write_bio_X509_REQ(bio.get(), request.get());
    char* data = nullptr;
    const auto size = BIO_get_mem_data(bio.get(), &data);
    return {data, static_cast<std::size_t>(size)};
}

class AuthorityTest : public testing::Test {
protected:
    void SetUp() override
    {
        auto made = make_authority(now, hours(24 * 3650));
        ASSERT_TRUE(made) << made.error().message;
        authority = std::move(*made);
    }
    CertificateGrant agent_grant() const { return {"agent-1", "agent", {}, {}, now, hours(24)}; }

    KeyAndCertificate authority;
};

TEST_F(AuthorityTest, TheSignerChoosesTheSubjectNotTheRequest)
{
    const auto pair = make_key_and_request("i-am-admin");
    ASSERT_TRUE(pair);
    const auto certificate = sign_request(authority, pair->csr_pem, agent_grant());
    ASSERT_TRUE(certificate) << certificate.error().message;
    const auto facts = inspect_certificate(*certificate);
    ASSERT_TRUE(facts);
    EXPECT_EQ(facts->common_name, "agent-1");
    EXPECT_EQ(facts->organizational_unit, "agent");
    EXPECT_EQ(facts->not_before, now - clock_skew);
    EXPECT_EQ(facts->not_after, now + hours(24));
    EXPECT_TRUE(key_matches({pair->key_pem, *certificate}));
    EXPECT_TRUE(issued_by(*certificate, authority.certificate_pem));
    EXPECT_EQ(X509_check_host(parse(*certificate).get(), "i-am-admin", 0, 0, nullptr), 0);
}

TEST_F(AuthorityTest, OnlyTheControllersCertificateCarriesItsName)
{
    auto grant = agent_grant();
    grant.dns_names = {controller_name};
    EXPECT_FALSE(issue(authority, grant));

    const auto issued =
        issue(authority, {"controller", "controller", {controller_name}, {"192.0.2.1"}, now, hours(24)});
    ASSERT_TRUE(issued) << issued.error().message;
    const auto certificate = parse(issued->certificate_pem);
    EXPECT_EQ(X509_check_host(certificate.get(), controller_name, 0, 0, nullptr), 1);
    EXPECT_EQ(X509_check_ip_asc(certificate.get(), "192.0.2.1", 0), 1);
    EXPECT_EQ(X509_check_purpose(certificate.get(), X509_PURPOSE_SSL_SERVER, 0), 1);
    EXPECT_EQ(X509_check_purpose(certificate.get(), X509_PURPOSE_SSL_CLIENT, 0), 0);
    EXPECT_EQ(X509_check_purpose(certificate.get(), X509_PURPOSE_SSL_SERVER, 1), 0) << "must not be a CA";
}

TEST_F(AuthorityTest, AnAgentsCertificateCannotServe)
{
    const auto issued = issue(authority, agent_grant());
    ASSERT_TRUE(issued);
    const auto certificate = parse(issued->certificate_pem);
    EXPECT_EQ(X509_check_purpose(certificate.get(), X509_PURPOSE_SSL_CLIENT, 0), 1);
    EXPECT_EQ(X509_check_purpose(certificate.get(), X509_PURPOSE_SSL_SERVER, 0), 0);
}

TEST_F(AuthorityTest, ARequestNotSignedByItsOwnKeyIsRefused)
{
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> mine(EVP_EC_gen("P-256"), EVP_PKEY_free);
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> other(EVP_EC_gen("P-256"), EVP_PKEY_free);
    EXPECT_TRUE(sign_request(authority, request_by(mine.get(), mine.get()), agent_grant()));
    const auto forged = sign_request(authority, request_by(mine.get(), other.get()), agent_grant());
    ASSERT_FALSE(forged);
    EXPECT_EQ(forged.error().kind, ErrorKind::refused);
}

TEST_F(AuthorityTest, OtherKeysAndNonsenseAreRefused)
{
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> rsa(EVP_RSA_gen(2048), EVP_PKEY_free);
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> p384(EVP_EC_gen("P-384"), EVP_PKEY_free);
    for (const auto& request : {request_by(rsa.get(), rsa.get()), request_by(p384.get(), p384.get()), std::string(),
                                std::string("nonsense")}) {
        const auto signed_one = sign_request(authority, request, agent_grant());
        ASSERT_FALSE(signed_one);
        EXPECT_EQ(signed_one.error().kind, ErrorKind::refused);
    }
}

TEST_F(AuthorityTest, SerialsAreRandomAndPositive)
{
    std::set<std::string> seen;
    for (int i = 0; i < 20; ++i) {
        const auto issued = issue(authority, agent_grant());
        ASSERT_TRUE(issued);
        const auto certificate = parse(issued->certificate_pem);
        const auto* serial = X509_get0_serialNumber(certificate.get());
        EXPECT_EQ(serial->type, V_ASN1_INTEGER);
        EXPECT_GE(serial->length, 16);
        seen.emplace(reinterpret_cast<const char*>(serial->data), static_cast<std::size_t>(serial->length));
    }
    EXPECT_EQ(seen.size(), 20U);
}

TEST_F(AuthorityTest, NoCertificateOutlivesTheAuthority)
{
    const auto short_lived = make_authority(now, hours(1));
    ASSERT_TRUE(short_lived);
    const auto issued = issue(*short_lived, agent_grant());
    ASSERT_TRUE(issued);
    EXPECT_EQ(inspect_certificate(issued->certificate_pem)->not_after, now + hours(1));
    auto late = agent_grant();
    late.now = now + hours(2);
    EXPECT_FALSE(issue(*short_lived, late));
}

TEST_F(AuthorityTest, HalfWrittenPairsAreRecognised)
{
    const auto other = make_authority(now, hours(1));
    ASSERT_TRUE(other);
    EXPECT_TRUE(key_matches(authority));
    EXPECT_FALSE(key_matches({other->key_pem, authority.certificate_pem}));
    EXPECT_FALSE(key_matches({"", authority.certificate_pem}));
    EXPECT_FALSE(issued_by(authority.certificate_pem, other->certificate_pem));
}

TEST_F(AuthorityTest, NamesCannotSmuggleFurtherNames)
{
    EXPECT_FALSE(issue(authority, {"c", "controller", {"a,DNS:evil.example"}, {}, now, hours(1)}));
    EXPECT_FALSE(issue(authority, {"c", "controller", {}, {"1.2.3.4,DNS:evil"}, now, hours(1)}));
}

} // namespace
} // namespace bulkhead::tls
