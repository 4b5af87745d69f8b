// SPDX-License-Identifier: Apache-2.0
#include "common/tls/signature.h"

#include "common/tls/openssl_handles.h"

#include <vector>

namespace bulkhead::tls {
namespace {

using DigestContext = std::unique_ptr<EVP_MD_CTX, OpensslFree<EVP_MD_CTX_free>>;
using Bytes = std::vector<unsigned char>;

Bytes bytes_to_sign(std::string_view context, std::string_view message)
{
    Bytes bytes(context.begin(), context.end());
    bytes.push_back(0);
    bytes.insert(bytes.end(), message.begin(), message.end());
    return bytes;
}

} // namespace

struct Signer::Held {
    Key key;
};

Signer::Signer(std::unique_ptr<Held> held) : held_(std::move(held)) {}
Signer::Signer(Signer&&) noexcept = default;
Signer& Signer::operator=(Signer&&) noexcept = default;
Signer::~Signer() = default;

Result<Signer> Signer::create(const std::string& key_pem)
{
    BULKHEAD_TRY(auto key, key_from_pem(key_pem));
    return Signer(std::make_unique<Held>(Held{std::move(key)}));
}

Result<std::string> Signer::sign(std::string_view context, std::string_view message) const
{
    const auto bytes = bytes_to_sign(context, message);
    const DigestContext digest(EVP_MD_CTX_new());
    std::size_t size = 0;
    if (!digest || EVP_DigestSignInit(digest.get(), nullptr, EVP_sha256(), nullptr, held_->key.get()) != 1 ||
        EVP_DigestSign(digest.get(), nullptr, &size, bytes.data(), bytes.size()) != 1)
        return fail_openssl("sign");
    Bytes signature(size);
    if (EVP_DigestSign(digest.get(), signature.data(), &size, bytes.data(), bytes.size()) != 1)
        return fail_openssl("sign");
    return std::string(signature.begin(), signature.begin() + static_cast<std::ptrdiff_t>(size));
}

Status verify_signature(const std::string& certificate_pem, std::string_view context, std::string_view message,
                        std::string_view signature)
{
    BULKHEAD_TRY(const auto certificate, certificate_from_pem(certificate_pem));
    const auto bytes = bytes_to_sign(context, message);
    const Bytes given(signature.begin(), signature.end());
    const DigestContext digest(EVP_MD_CTX_new());
    if (!digest ||
        EVP_DigestVerifyInit(digest.get(), nullptr, EVP_sha256(), nullptr, X509_get0_pubkey(certificate.get())) != 1)
        return fail_openssl("verify a signature");
    const bool holds = EVP_DigestVerify(digest.get(), given.data(), given.size(), bytes.data(), bytes.size()) == 1;
    ERR_clear_error(); // what is wrong with a signature concerns nobody
    if (!holds)
        return fail(ErrorKind::refused, "the signature does not match");
    return {};
}

} // namespace bulkhead::tls
