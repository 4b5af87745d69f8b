// SPDX-License-Identifier: Apache-2.0
#include "common/net/community_id.h"

#include "common/net/digest.h"

#include <openssl/evp.h>

#include <string>
#include <tuple>

namespace bulkhead {
namespace {

void append_address(std::string& out, const IpAddress& address)
{
    out.append(address.bytes.begin() + (address.is_v4() ? 12 : 0), address.bytes.end());
}

void append_port(std::string& out, std::uint16_t port)
{
    out += static_cast<char>(port >> 8);
    out += static_cast<char>(port & 0xff);
}

} // namespace

std::string community_id_v1(std::uint8_t protocol, const IpAddress& source, std::uint16_t source_port,
                            const IpAddress& destination, std::uint16_t destination_port)
{
    const bool ordered = std::tie(source, source_port) <= std::tie(destination, destination_port);
    std::string bytes(2, '\0'); // seed
    append_address(bytes, ordered ? source : destination);
    append_address(bytes, ordered ? destination : source);
    bytes += static_cast<char>(protocol);
    bytes += '\0';
    append_port(bytes, ordered ? source_port : destination_port);
    append_port(bytes, ordered ? destination_port : source_port);

    const auto digest = sha1(bytes);
    if (!digest)
        return {};
    std::array<unsigned char, 4 * ((20 + 2) / 3) + 1> encoded{}; // base64 of what SHA-1 gives
    ::EVP_EncodeBlock(encoded.data(), digest->data(), static_cast<int>(digest->size()));
    return "1:" + std::string(reinterpret_cast<const char*>(encoded.data()));
}

} // namespace bulkhead
