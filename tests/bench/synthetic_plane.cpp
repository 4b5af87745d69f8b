// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/synthetic_plane.h"

#include <netinet/in.h>

#include <algorithm>

namespace bulkhead::bench {

namespace {

constexpr std::uint16_t the_port_class = 1;
constexpr std::uint32_t partner_class = 1;
constexpr std::uint32_t first_peer_class = 2;

void allow(policy::PlaneImage& image, const bh_entry_key& key)
{
    image.entries[key].entry.allow[0] = 1;
}

} // namespace

IpAddress synthetic_peer(std::size_t i)
{
    return IpAddress::from_v4(0x0b000000 + static_cast<std::uint32_t>(i));
}

policy::PlaneImage synthetic_plane(std::size_t entries, std::size_t peers, const std::vector<IpAddress>& partners,
                                   std::uint16_t port)
{
    policy::PlaneImage image;
    image.info.default_action[BH_OUTBOUND] = BH_DEFAULT_DENY;
    image.info.default_action[BH_INBOUND] = BH_DEFAULT_DENY;
    image.port_classes.assign(BH_PORT_CLASS_ENTRIES, BH_PORT_ANY);
    for (const auto direction : {policy::Direction::outbound, policy::Direction::inbound})
        for (const auto protocol : {policy::Protocol::tcp, policy::Protocol::udp}) {
            for (std::uint16_t i = 0; i < synthetic_ports; ++i)
                image
                    .port_classes[policy::port_class_index(direction, protocol, static_cast<std::uint16_t>(port + i))] =
                    the_port_class;
            allow(image, {partner_class, the_port_class, static_cast<__u8>(protocol), static_cast<__u8>(direction)});
        }
    for (const auto& partner : partners)
        image.exact[partner] = partner_class;

    const std::size_t more_peers = peers > partners.size() ? peers - partners.size() : 0;
    const std::size_t more_entries = entries > image.entries.size() ? entries - image.entries.size() : 0;
    const std::size_t classes = std::max<std::size_t>(1, std::min(more_peers, more_entries));
    image.exact.reserve(peers);
    image.entries.reserve(entries);
    for (std::size_t i = 0; i < more_peers; ++i)
        image.exact[synthetic_peer(i)] = static_cast<std::uint32_t>(first_peer_class + i % classes);
    for (std::size_t i = 0; i < more_entries; ++i)
        allow(image, {static_cast<__u32>(first_peer_class + i % classes),
                      static_cast<__u16>(the_port_class + i / classes), IPPROTO_TCP, BH_OUTBOUND});
    return image;
}

} // namespace bulkhead::bench
