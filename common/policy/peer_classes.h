// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/plane_image.h"

#include <vector>

namespace bulkhead::policy {

// Partitions addresses by the set of peer sets that contain them, and writes the exact and prefix tables of an image.
// `sets` are distinct and none of them is `any`. Returns, for each set, the classes that it is made of.
[[nodiscard]] Result<std::vector<std::vector<std::uint32_t>>>
classify_peers(const std::vector<const PeerSet*>& sets, const AddressBook& addresses, PlaneImage& image);

} // namespace bulkhead::policy
