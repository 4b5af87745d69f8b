// SPDX-License-Identifier: Apache-2.0
#include "common/net/digest.h"

#include <openssl/evp.h>

#include <memory>

namespace bulkhead {
namespace {

using Algorithm = std::unique_ptr<EVP_MD, decltype(&::EVP_MD_free)>;
using Context = std::unique_ptr<EVP_MD_CTX, decltype(&::EVP_MD_CTX_free)>;

template <std::size_t size>
std::optional<std::array<std::uint8_t, size>> digest(const Algorithm& algorithm, std::string_view bytes)
{
    thread_local const Context context(::EVP_MD_CTX_new(), ::EVP_MD_CTX_free);
    std::array<std::uint8_t, size> result{};
    if (!algorithm || !context || ::EVP_MD_get_size(algorithm.get()) != static_cast<int>(size) ||
        ::EVP_DigestInit_ex2(context.get(), algorithm.get(), nullptr) != 1 ||
        ::EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) != 1 ||
        ::EVP_DigestFinal_ex(context.get(), result.data(), nullptr) != 1)
        return std::nullopt;
    return result;
}

} // namespace

std::optional<std::array<std::uint8_t, 20>> sha1(std::string_view bytes)
{
    static const Algorithm algorithm(::EVP_MD_fetch(nullptr, "SHA1", nullptr), ::EVP_MD_free);
    return digest<20>(algorithm, bytes);
}

std::optional<std::array<std::uint8_t, 32>> sha256(std::string_view bytes)
{
    static const Algorithm algorithm(::EVP_MD_fetch(nullptr, "SHA256", nullptr), ::EVP_MD_free);
    return digest<32>(algorithm, bytes);
}

} // namespace bulkhead
