// SPDX-License-Identifier: Apache-2.0
#include "common/tls/openssl_handles.h"
#include "common/tls/tls.h"

#include <array>
#include <ctime>

namespace bulkhead::tls {
namespace {

using std::chrono::system_clock;

Result<system_clock::time_point> to_time(const ASN1_TIME* time)
{
    std::tm parts{};
    if (ASN1_TIME_to_tm(time, &parts) != 1)
        return fail_openssl("read a certificate's validity");
    return system_clock::from_time_t(::timegm(&parts));
}

// A name with two CNs is no name: another reader of the same certificate might take the other one.
std::string single_entry(X509_NAME* name, int nid)
{
    const int index = X509_NAME_get_index_by_NID(name, nid, -1);
    if (index < 0 || X509_NAME_get_index_by_NID(name, nid, index) >= 0)
        return {};
    const auto* data = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index));
    unsigned char* utf8 = nullptr;
    const int size = ASN1_STRING_to_UTF8(&utf8, data);
    if (size < 0)
        return {};
    std::string text(reinterpret_cast<const char*>(utf8), static_cast<std::size_t>(size));
    OPENSSL_free(utf8);
    return text;
}

} // namespace

Result<Certificate> certificate_from_pem(const std::string& pem)
{
    const auto bio = read_bio(pem);
    Certificate certificate(bio ? PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr) : nullptr);
    if (!certificate)
        return fail_openssl("read a certificate");
    return certificate;
}

Result<std::string> certificate_to_pem(X509* certificate)
{
    const Bio bio(BIO_new(BIO_s_mem()));
    if (!bio || PEM_write_bio_X509(bio.get(), certificate) != 1)
        return fail_openssl("write a certificate");
    return take_text(bio.get());
}

Result<std::string> fingerprint_of(const X509* certificate)
{
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) != 1)
        return fail_openssl("digest a certificate");
    std::string hex;
    for (unsigned int i = 0; i < size; ++i)
        hex += fmt::format("{:02x}", digest[i]);
    return hex;
}

Result<std::string> certificate_fingerprint(const std::string& pem)
{
    BULKHEAD_TRY(const auto certificate, certificate_from_pem(pem));
    return fingerprint_of(certificate.get());
}

Result<CertificateFacts> inspect_certificate(const std::string& pem)
{
    BULKHEAD_TRY(const auto certificate, certificate_from_pem(pem));
    CertificateFacts facts;
    auto* name = X509_get_subject_name(certificate.get());
    facts.common_name = single_entry(name, NID_commonName);
    facts.organizational_unit = single_entry(name, NID_organizationalUnitName);
    BULKHEAD_TRY(facts.not_before, to_time(X509_get0_notBefore(certificate.get())));
    BULKHEAD_TRY(facts.not_after, to_time(X509_get0_notAfter(certificate.get())));
    return facts;
}

} // namespace bulkhead::tls
