// SPDX-License-Identifier: Apache-2.0
#include "common/net/community_id.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <tuple>
#include <vector>

namespace bulkhead {
namespace {

void append_address(std::vector<std::uint8_t>& out, const IpAddress& address)
{
    out.insert(out.end(), address.bytes.begin() + (address.is_v4() ? 12 : 0), address.bytes.end());
}

void append_port(std::vector<std::uint8_t>& out, std::uint16_t port)
{
    out.push_back(static_cast<std::uint8_t>(port >> 8));
    out.push_back(static_cast<std::uint8_t>(port & 0xff));
}

} // namespace

std::string community_id_v1(std::uint8_t protocol, const IpAddress& source, std::uint16_t source_port,
                            const IpAddress& destination, std::uint16_t destination_port)
{
    const bool ordered = std::tie(source, source_port) <= std::tie(destination, destination_port);
    std::vector<std::uint8_t> bytes{0, 0}; // seed
    append_address(bytes, ordered ? source : destination);
    append_address(bytes, ordered ? destination : source);
    bytes.push_back(protocol);
    bytes.push_back(0);
    append_port(bytes, ordered ? source_port : destination_port);
    append_port(bytes, ordered ? destination_port : source_port);

    std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
    ::SHA1(bytes.data(), bytes.size(), digest.data());
    std::array<unsigned char, 4 * ((SHA_DIGEST_LENGTH + 2) / 3) + 1> encoded{};
    ::EVP_EncodeBlock(encoded.data(), digest.data(), static_cast<int>(digest.size()));
    return "1:" + std::string(reinterpret_cast<const char*>(encoded.data()));
}

} // namespace bulkhead
