// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/plane_image.h"

#include <vector>

namespace bulkhead::policy {

// One (protocol, port class) half of an entry key.
struct PortClass {
    Protocol protocol = Protocol::tcp;
    std::uint16_t number = BH_PORT_ANY;
};

// What rules of one direction ask for.
using ServiceSets = std::vector<const std::vector<ServiceAtom>*>;

// Partitions the ports of one direction by the service sets that contain them and writes that part of
// image.port_classes, which must have BH_PORT_CLASS_ENTRIES entries. Types of ICMP and protocol numbers need no table.
// Sets are distinct. Returns, for each, the classes that it is made of.
[[nodiscard]] Result<std::vector<std::vector<PortClass>>> classify_ports(const ServiceSets& sets, Direction direction,
                                                                         PlaneImage& image);

} // namespace bulkhead::policy
