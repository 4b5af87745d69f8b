// SPDX-License-Identifier: Apache-2.0
#include "agent/state/sealed_bytes.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <vector>

namespace bulkhead::agent {
namespace {

std::string digest_of(std::string_view bytes)
{
    std::string digest(SHA256_DIGEST_LENGTH, '\0');
    std::array<unsigned char, SHA256_DIGEST_LENGTH> raw{};
    const std::vector<unsigned char> input(bytes.begin(), bytes.end());
    ::SHA256(input.data(), input.size(), raw.data());
    std::copy(raw.begin(), raw.end(), digest.begin());
    return digest;
}

} // namespace

void put_number(std::string& out, std::uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; ++i)
        out += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
}

void put_block(std::string& out, const std::string& block)
{
    put_number(out, block.size(), 4);
    out += block;
}

std::string seal(std::string body)
{
    body += digest_of(body);
    return body;
}

std::optional<std::string_view> unseal(std::string_view bytes)
{
    if (bytes.size() < SHA256_DIGEST_LENGTH)
        return std::nullopt;
    const auto body = bytes.substr(0, bytes.size() - SHA256_DIGEST_LENGTH);
    if (digest_of(body) != bytes.substr(body.size()))
        return std::nullopt;
    return body;
}

std::uint64_t SealedReader::number(unsigned bytes)
{
    if (rest.size() < bytes)
        ok = false;
    if (!ok)
        return 0;
    std::uint64_t value = 0;
    for (unsigned i = 0; i < bytes; ++i)
        value |= static_cast<std::uint64_t>(static_cast<unsigned char>(rest[i])) << (8 * i);
    rest.remove_prefix(bytes);
    return value;
}

std::string SealedReader::block()
{
    const auto size = number(4);
    if (size > rest.size())
        ok = false;
    if (!ok)
        return {};
    std::string value(rest.substr(0, size));
    rest.remove_prefix(size);
    return value;
}

} // namespace bulkhead::agent
