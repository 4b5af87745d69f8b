// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/net/ip.h"

#include <string>

namespace bulkhead {

// Community ID flow hash, version 1, seed 0 (https://github.com/corelight/community-id-spec): the same for both
// directions and on both hosts, so records join with Zeek's and Suricata's. Ports in host byte order.
// Empty where OpenSSL offers no SHA-1.
[[nodiscard]] std::string community_id_v1(std::uint8_t protocol, const IpAddress& source, std::uint16_t source_port,
                                          const IpAddress& destination, std::uint16_t destination_port);

} // namespace bulkhead
