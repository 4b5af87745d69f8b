/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets without which a link does not work at all. */
#ifndef BULKHEAD_BPF_GUARD_NEIGHBOURS_H
#define BULKHEAD_BPF_GUARD_NEIGHBOURS_H

#include "bpf/guard/judge.h"

/* Neighbour discovery, never forwarded (RFC 4861: hop limit 255), multicast listener discovery (RFC 3810: 1), IGMP. */
static __always_inline int bh_is_link_control(const struct bh_packet* packet)
{
    if (packet->headless)
        return 0;
    if (packet->protocol == IPPROTO_ICMPV6) {
        if (packet->icmp_type >= BH_ICMPV6_ROUTER_SOLICITATION &&
            packet->icmp_type <= BH_ICMPV6_NEIGHBOUR_ADVERTISEMENT)
            return packet->hop_limit == 255;
        if ((packet->icmp_type >= BH_ICMPV6_MLD_QUERY && packet->icmp_type <= BH_ICMPV6_MLD_DONE) ||
            packet->icmp_type == BH_ICMPV6_MLDV2_REPORT)
            return packet->hop_limit == 1;
        return 0;
    }
    return packet->protocol == IPPROTO_IGMP && packet->hop_limit == 1 && bh_is_multicast(&packet->destination);
}

static __always_inline int bh_is_link_local(const struct bh_address* address)
{
    return (bh_const_words(address)[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* fe80::/10, or a multicast group of the link (RFC 4291; RFC 5771): no router takes it further. */
static __always_inline int bh_stays_on_link(const struct bh_address* address)
{
    const __u32* word = bh_const_words(address);
    if (bh_is_v4(address))
        return bh_is_multicast(address);
    return bh_is_link_local(address) || (word[0] & bpf_htonl(0xff0f0000)) == bpf_htonl(0xff020000);
}

/* What daemons of the link (router advertisements, unsolicited ones of neighbours) send through raw sockets. */
static __always_inline int bh_is_link_control_by_hand(const struct bh_packet* packet)
{
    return bh_is_link_control(packet) && bh_stays_on_link(&packet->destination);
}

/* "Packet too big": a path on which it is lost swallows large packets for ever (RFC 2923). */
static __always_inline int bh_is_path_mtu(const struct bh_packet* packet)
{
    if (packet->headless)
        return 0;
    if (packet->protocol == IPPROTO_ICMP)
        return packet->icmp_type == BH_ICMP_UNREACHABLE && packet->icmp_code == BH_ICMP_FRAGMENTATION_NEEDED;
    return packet->protocol == IPPROTO_ICMPV6 && packet->icmp_type == BH_ICMPV6_TOO_BIG;
}

#endif
