// SPDX-License-Identifier: Apache-2.0
#include "common/tls/openssl_handles.h"
#include "common/tls/tls.h"

namespace bulkhead::tls {
namespace {

// A PEM that asks for a passphrase is one we did not write; without this OpenSSL would prompt on the terminal.
int no_passphrase(char*, int, int, void*)
{
    return -1;
}

} // namespace

Result<Key> make_key()
{
    Key key(EVP_EC_gen("P-256"));
    if (!key)
        return fail_openssl("make a P-256 key");
    return key;
}

Result<std::string> key_to_pem(EVP_PKEY* key)
{
    const Bio bio(BIO_new(BIO_s_mem()));
    if (!bio || PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
        return fail_openssl("write a private key");
    return take_text(bio.get());
}

Result<Key> key_from_pem(const std::string& pem)
{
    const auto bio = read_bio(pem);
    Key key(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr) : nullptr);
    if (!key)
        return fail_openssl("read a private key");
    return key;
}

Status add_name(X509_NAME* name, const char* field, const std::string& value)
{
    if (X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(value.data()),
                                   static_cast<int>(value.size()), -1, 0) != 1)
        return fail_openssl(fmt::format("name a certificate '{}'", value));
    return {};
}

Result<KeyAndRequest> make_key_and_request(const std::string& common_name)
{
    BULKHEAD_TRY(const auto key, make_key());
    const CertificateRequest request(X509_REQ_new());
    if (!request)
        return fail_openssl("make a certificate request");
    BULKHEAD_CHECK(add_name(X509_REQ_get_subject_name(request.get()), "CN", common_name));
    if (X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_pubkey(request.get(), key.get()) != 1 ||
        X509_REQ_sign(request.get(), key.get(), EVP_sha256()) <= 0)
        return fail_openssl("sign a certificate request");
    const Bio bio(BIO_new(BIO_s_mem()));
    if (!bio || PEM_write_bio_X509_REQ(bio.get(), request.get()) != 1)
        return fail_openssl("write a certificate request");
    BULKHEAD_TRY(auto key_pem, key_to_pem(key.get()));
    return KeyAndRequest{std::move(key_pem), take_text(bio.get())};
}

} // namespace bulkhead::tls
