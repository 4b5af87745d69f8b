// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/plane_image.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bulkhead::bench {

// The address of a plane's peer number i: from 11.0.0.0 on.
[[nodiscard]] IpAddress synthetic_peer(std::size_t i);

// A plane of so many entries and known peers, as no document of a sane size makes it. Everything is denied, but for TCP
// and UDP with the partners, both ways, and TCP to the other peers, on a few ports from `port` on. A verdict about a
// known peer makes all four lookups.
inline constexpr std::uint16_t synthetic_ports = 8;
[[nodiscard]] policy::PlaneImage synthetic_plane(std::size_t entries, std::size_t peers,
                                                 const std::vector<IpAddress>& partners, std::uint16_t port);

} // namespace bulkhead::bench
