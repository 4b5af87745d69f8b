// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>

// Owners of OpenSSL objects, and its error queue as a value. For this folder only.
namespace bulkhead::tls {

template <auto Free>
struct OpensslFree {
    template <typename T>
    void operator()(T* object) const
    {
        Free(object);
    }
};
using Key = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, OpensslFree<X509_free>>;
using CertificateRequest = std::unique_ptr<X509_REQ, OpensslFree<X509_REQ_free>>;
using Bio = std::unique_ptr<BIO, OpensslFree<BIO_free_all>>;
using Extension = std::unique_ptr<X509_EXTENSION, OpensslFree<X509_EXTENSION_free>>;
using BigNumber = std::unique_ptr<BIGNUM, OpensslFree<BN_free>>;
using SslContext = std::unique_ptr<SSL_CTX, OpensslFree<SSL_CTX_free>>;
using Ssl = std::unique_ptr<SSL, OpensslFree<SSL_free>>;

// The queue's oldest entry names the cause; later ones are the callers that failed because of it.
[[nodiscard]] inline tl::unexpected<Error> fail_openssl(std::string_view what)
{
    const auto code = ERR_get_error();
    ERR_clear_error();
    const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
    return fail(ErrorKind::failed, "{}: {}", what, reason == nullptr ? "OpenSSL gives no reason" : reason);
}

[[nodiscard]] inline Bio read_bio(const std::string& text)
{
    return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

[[nodiscard]] inline std::string take_text(BIO* bio)
{
    char* data = nullptr;
    const auto size = BIO_get_mem_data(bio, &data);
    return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

[[nodiscard]] Result<Key> make_key();
[[nodiscard]] Result<std::string> key_to_pem(EVP_PKEY* key);
[[nodiscard]] Result<Key> key_from_pem(const std::string& pem);
[[nodiscard]] Result<Certificate> certificate_from_pem(const std::string& pem);
[[nodiscard]] Result<std::string> certificate_to_pem(X509* certificate);
[[nodiscard]] Result<std::string> fingerprint_of(const X509* certificate);
[[nodiscard]] Status add_name(X509_NAME* name, const char* field, const std::string& value);

} // namespace bulkhead::tls
