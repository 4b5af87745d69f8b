/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The guard's inner side: what arrives at an interface and will pass no door. */
#ifndef BULKHEAD_BPF_GUARD_ENTERING_H
#define BULKHEAD_BPF_GUARD_ENTERING_H

#include "bpf/guard/forwarded.h"
#include "bpf/guard/ordinary.h"
#include "bpf/guard/quarantine.h"

/* For certain, where bh_is_subnet_broadcast() only suspects. */
static __noinline int bh_is_network_broadcast(const struct bh_address* destination)
{
    if (!bh_is_subnet_broadcast(bh_const_words(destination)[3]))
        return 0;
    return !subnet_broadcasts_more || (bh_own_address(destination) & BH_OWN_BROADCAST);
}

/* From 0.0.0.0 to 0.0.0.0 is for all, too (ip_route_input_slow). */
static __always_inline int bh_is_for_many(const struct bh_packet* packet)
{
    return bh_is_multicast(&packet->destination) || bh_is_unspecified(&packet->destination) ||
           (bh_is_v4(&packet->destination) && bh_is_network_broadcast(&packet->destination));
}

/*
 * From outside with an address that only this host may have (RFC 2827, seen from the end). Link-local ones are the
 * host's on one link and somebody else's on another (RFC 4007): a router's fe80::1, and that of a bridge here. Who
 * defends an address that this host is about to take says so from that address (RFC 4862, 5.4.4), as does whoever takes
 * it over; what is believed of link control is its body, and that may come from any source.
 */
static __always_inline int bh_comes_from_ourselves(const struct bh_packet* packet, int for_others)
{
    if (bh_is_link_local(&packet->source))
        return 0;
    return bh_is_loopback(&packet->source) ||
           ((for_others || !bh_is_link_control(packet)) && (bh_own_address(&packet->source) & BH_OWN_UNICAST));
}

static __always_inline int bh_is_for_this_host(const struct bh_packet* packet)
{
    return (bh_own_address(&packet->destination) & BH_OWN_UNICAST) != 0;
}

/*
 * What a server of DHCP offers is sent to the address that is offered (RFC 2131, 4.1), which the client has not yet; it
 * listens by a packet socket. The kernel would take it for somebody else's, and forward it: so it is made what is for
 * another host by its link address, which packet sockets hear and nobody forwards.
 */
static __noinline int bh_is_offered_to_us(struct __sk_buff* skb, struct bh_guard_work* work)
{
    const struct bh_packet* packet = &work->packet;
    if (packet->ether_type != ETH_P_IP || packet->protocol != IPPROTO_UDP || packet->headless ||
        packet->source_port != BH_DHCP_SERVER || packet->destination_port != BH_DHCP_CLIENT)
        return 0;
    if (bh_find_exchange(work)) /* an answer to a client behind this host, which renews its lease (RFC 2131, 4.3.2) */
        return 0;
    work->direction = BH_FORWARDED;
    bh_judge_exchange();
    if (work->answer.verdict == BH_ALLOWED) /* to a client behind this host */
        return 0;
    bh_ask_about_exchange(work, BH_INBOUND);
    bh_judge(&work->question, &work->answer);
    return work->answer.verdict == BH_ALLOWED && bpf_skb_change_type(skb, BH_PACKET_OTHERHOST) == 0;
}

__noinline int bh_judge_entering(struct __sk_buff* skb)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_GUARD_PASS;
    const struct bh_packet* packet = &work->packet;
    int for_many = bh_is_for_many(packet);
    int has_door = (packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP) && !for_many;

    int for_others = host_forwards && !for_many && !bh_is_for_this_host(packet);

    bh_take_as_first(work);
    if (packet->source_routed || bh_comes_from_ourselves(packet, for_others))
        return bh_refuse_packet(BH_INBOUND);
    if (for_others)
        return bh_is_offered_to_us(skb, work) ? BH_GUARD_PASS : bh_passes_through(skb, work);
    if (has_door || bh_is_link_control(packet) || bh_is_path_mtu(packet))
        return BH_GUARD_PASS;
    if (!for_many && !bh_is_for_this_host(packet))
        return BH_GUARD_PASS; /* nobody's */
    if (packet->headless)
        return BH_GUARD_PASS; /* nothing without the first fragment, which is judged */
    if (bh_is_icmp_error(packet) && bh_error_is_awaited(skb))
        return BH_GUARD_PASS;
    if (host_forwards && bh_answers_translated(work))
        return BH_GUARD_PASS;
    return bh_judge_packet(BH_INBOUND);
}

static __always_inline int bh_enters(struct __sk_buff* skb, __u32 link)
{
    if (bh_has_the_mark(skb))
        skb->tc_index = 0;
    if (bh_has_inbound_door(skb, link) && !bh_is_quarantined())
        return BH_GUARD_PASS;
    if (skb->pkt_type == BH_PACKET_OTHERHOST || !guard_namespace)
        return BH_GUARD_PASS;
    struct bh_guard_work* work = bh_look(skb, link);
    if (!work)
        return BH_GUARD_PASS;
    if (bh_is_quarantined())
        return bh_enters_quarantine();
    if (work->packet.kind == BH_FRAME_ARP || work->packet.kind == BH_FRAME_OTHER)
        return BH_GUARD_PASS;
    if (work->packet.kind == BH_FRAME_MALFORMED) {
        bh_take_as_first(work);
        return bh_refuse_packet(BH_INBOUND);
    }
    return bh_judge_entering(skb);
}

#endif
