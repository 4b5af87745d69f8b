// SPDX-License-Identifier: Apache-2.0
#include "common/tls/authority.h"

#include "common/tls/openssl_handles.h"
#include "common/tls/tls.h"

#include <openssl/core_names.h>

#include <algorithm>
#include <ctime>

namespace bulkhead::tls {
namespace {

using std::chrono::system_clock;

Status set_random_serial(X509* certificate)
{
    // RFC 5280, section 4.1.2.2: positive, at most 20 octets; 127 random bits and a top bit that makes it non-zero.
    const BigNumber number(BN_new());
    if (!number || BN_rand(number.get(), 128, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1 ||
        BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) == nullptr)
        return fail_openssl("choose a serial number");
    return {};
}

Status set_validity(X509* certificate, system_clock::time_point from, system_clock::time_point until)
{
    if (ASN1_TIME_set(X509_getm_notBefore(certificate), system_clock::to_time_t(from)) == nullptr ||
        ASN1_TIME_set(X509_getm_notAfter(certificate), system_clock::to_time_t(until)) == nullptr)
        return fail_openssl("set a certificate's validity");
    return {};
}

Status add_extension(X509* certificate, X509* issuer, int nid, const std::string& value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
    if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1)
        return fail_openssl(fmt::format("add the extension '{}'", value));
    return {};
}

Result<Certificate> begin_certificate(EVP_PKEY* key, const std::string& common_name, const std::string& role)
{
    Certificate certificate(X509_new());
    if (!certificate || X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
        X509_set_pubkey(certificate.get(), key) != 1)
        return fail_openssl("make a certificate");
    BULKHEAD_CHECK(set_random_serial(certificate.get()));
    auto* name = X509_get_subject_name(certificate.get());
    BULKHEAD_CHECK(add_name(name, "O", "Bulkhead"));
    BULKHEAD_CHECK(add_name(name, "OU", role));
    BULKHEAD_CHECK(add_name(name, "CN", common_name));
    return certificate;
}

Status sign(X509* certificate, EVP_PKEY* key)
{
    if (X509_sign(certificate, key, EVP_sha256()) <= 0)
        return fail_openssl("sign a certificate");
    return {};
}

bool is_p256(EVP_PKEY* key)
{
    char group[32] = {};
    std::size_t size = 0;
    return EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, &size) == 1 &&
           std::string_view(group, size) == "prime256v1";
}

Result<Key> key_of_request(const std::string& csr_pem)
{
    const auto refuse = [](std::string_view why) {
        ERR_clear_error();
        return fail(ErrorKind::refused, "certificate request: {}", why);
    };
    const auto bio = read_bio(csr_pem);
    const CertificateRequest request(bio ? PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr) : nullptr);
    if (!request)
        return refuse("is not a PEM certificate request");
    Key key(X509_REQ_get_pubkey(request.get()));
    if (!key || !is_p256(key.get()))
        return refuse("its key is not EC P-256");
    if (X509_REQ_verify(request.get(), key.get()) != 1)
        return refuse("its signature is not by its own key");
    return key;
}

// SAN values go through OpenSSL's small configuration language, in which a comma begins another name.
Result<std::string> subject_alternative_names(const CertificateGrant& grant)
{
    std::string names;
    const auto add = [&names](std::string_view kind, const std::string& value) {
        names += fmt::format("{}{}:{}", names.empty() ? "" : ",", kind, value);
    };
    for (const auto& name : grant.dns_names) {
        const auto allowed = [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
        };
        if (name.empty() || !std::all_of(name.begin(), name.end(), allowed))
            return fail(ErrorKind::invalid, "'{}' is no host name", name);
        add("DNS", name);
    }
    for (const auto& name : grant.ip_names) {
        const auto allowed = [](char c) {
            return (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || (c >= '0' && c <= '9') || c == ':' || c == '.';
        };
        if (name.empty() || !std::all_of(name.begin(), name.end(), allowed))
            return fail(ErrorKind::invalid, "'{}' is no IP address", name);
        add("IP", name);
    }
    return names;
}

Result<std::string> sign_key(const KeyAndCertificate& authority, EVP_PKEY* subject_key, const CertificateGrant& grant)
{
    const bool server = grant.role == "controller";
    if (!server && !(grant.dns_names.empty() && grant.ip_names.empty()))
        return fail(ErrorKind::failed, "a certificate of role '{}' carries no host names", grant.role);
    BULKHEAD_TRY(const auto authority_key, key_from_pem(authority.key_pem));
    BULKHEAD_TRY(const auto issuer, certificate_from_pem(authority.certificate_pem));
    BULKHEAD_TRY(const auto issuer_facts, inspect_certificate(authority.certificate_pem));
    BULKHEAD_TRY(const auto certificate, begin_certificate(subject_key, grant.common_name, grant.role));
    auto* raw = certificate.get();
    const auto until = std::min(grant.now + grant.lifetime, issuer_facts.not_after);
    if (until <= grant.now)
        return fail(ErrorKind::failed, "the authority's own certificate has expired");
    BULKHEAD_CHECK(set_validity(raw, std::max(grant.now - clock_skew, issuer_facts.not_before), until));
    if (X509_set_issuer_name(raw, X509_get_subject_name(issuer.get())) != 1)
        return fail_openssl("name a certificate's issuer");
    BULKHEAD_CHECK(add_extension(raw, issuer.get(), NID_basic_constraints, "critical,CA:FALSE"));
    BULKHEAD_CHECK(add_extension(raw, issuer.get(), NID_key_usage, "critical,digitalSignature"));
    BULKHEAD_CHECK(add_extension(raw, issuer.get(), NID_ext_key_usage, server ? "serverAuth" : "clientAuth"));
    BULKHEAD_CHECK(add_extension(raw, issuer.get(), NID_subject_key_identifier, "hash"));
    BULKHEAD_CHECK(add_extension(raw, issuer.get(), NID_authority_key_identifier, "keyid:always"));
    BULKHEAD_TRY(const auto names, subject_alternative_names(grant));
    if (!names.empty())
        BULKHEAD_CHECK(add_extension(raw, issuer.get(), NID_subject_alt_name, names));
    BULKHEAD_CHECK(sign(raw, authority_key.get()));
    return certificate_to_pem(raw);
}

} // namespace

Result<KeyAndCertificate> make_authority(system_clock::time_point now, std::chrono::seconds lifetime)
{
    BULKHEAD_TRY(const auto key, make_key());
    BULKHEAD_TRY(const auto certificate, begin_certificate(key.get(), "Bulkhead CA", "ca"));
    auto* raw = certificate.get();
    BULKHEAD_CHECK(set_validity(raw, now - clock_skew, now + lifetime));
    if (X509_set_issuer_name(raw, X509_get_subject_name(raw)) != 1)
        return fail_openssl("name a certificate's issuer");
    BULKHEAD_CHECK(add_extension(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
    BULKHEAD_CHECK(add_extension(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign"));
    BULKHEAD_CHECK(add_extension(raw, raw, NID_subject_key_identifier, "hash"));
    BULKHEAD_CHECK(sign(raw, key.get()));
    KeyAndCertificate authority;
    BULKHEAD_TRY(authority.key_pem, key_to_pem(key.get()));
    BULKHEAD_TRY(authority.certificate_pem, certificate_to_pem(raw));
    return authority;
}

Result<std::string> sign_request(const KeyAndCertificate& authority, const std::string& csr_pem,
                                 const CertificateGrant& grant)
{
    BULKHEAD_TRY(const auto key, key_of_request(csr_pem));
    return sign_key(authority, key.get(), grant);
}

Result<KeyAndCertificate> issue(const KeyAndCertificate& authority, const CertificateGrant& grant)
{
    BULKHEAD_TRY(const auto key, make_key());
    KeyAndCertificate issued;
    BULKHEAD_TRY(issued.certificate_pem, sign_key(authority, key.get(), grant));
    BULKHEAD_TRY(issued.key_pem, key_to_pem(key.get()));
    return issued;
}

Result<std::string> issue_for_key(const KeyAndCertificate& authority, const std::string& key_pem,
                                  const CertificateGrant& grant)
{
    BULKHEAD_TRY(const auto key, key_from_pem(key_pem));
    return sign_key(authority, key.get(), grant);
}

bool key_matches(const KeyAndCertificate& pair)
{
    const auto key = key_from_pem(pair.key_pem);
    const auto certificate = certificate_from_pem(pair.certificate_pem);
    const bool matches = key && certificate && X509_check_private_key(certificate->get(), key->get()) == 1;
    ERR_clear_error();
    return matches;
}

bool issued_by(const std::string& certificate_pem, const std::string& authority_pem)
{
    const auto certificate = certificate_from_pem(certificate_pem);
    const auto authority = certificate_from_pem(authority_pem);
    if (!certificate || !authority)
        return false;
    const bool issued = X509_verify(certificate->get(), X509_get0_pubkey(authority->get())) == 1;
    ERR_clear_error();
    return issued;
}

} // namespace bulkhead::tls
