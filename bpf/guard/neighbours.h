/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets without which a link does not work at all, and those that speak of other packets. */
#ifndef BULKHEAD_BPF_GUARD_NEIGHBOURS_H
#define BULKHEAD_BPF_GUARD_NEIGHBOURS_H

#include "bpf/guard/exchanges.h"
#include "bpf/guard/translated.h"
#include "bpf/udp_flows.h"

#define BH_CURRENT_NETNS (-1)
#define BH_STATE_ESTABLISHED_GUARD 1
#define BH_STATE_LISTEN_GUARD 10

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

/* Queries and reports about a group go to that group, however wide it is (RFC 2710; RFC 3810, 5.1.15). */
static __always_inline int bh_is_for_the_link(const struct bh_packet* packet)
{
    return bh_stays_on_link(&packet->destination) || (packet->hop_limit == 1 && bh_is_multicast(&packet->destination));
}

/* What daemons of the link (router advertisements, unsolicited ones of neighbours) send through raw sockets. */
static __always_inline int bh_is_link_control_by_hand(const struct bh_packet* packet)
{
    return bh_is_link_control(packet) && bh_is_for_the_link(packet);
}

#define BH_SOLICITATION_BYTES 160 /* a frame's, with four options */

/*
 * Of a machine or container on a bridge, to a neighbour that it knows (RFC 4861, 7.3): about whom it is sent to, or by
 * whom it is about or one of the same network, and no longer than such a message is. A router would take anything else
 * anywhere.
 */
static __always_inline int bh_is_bridged_link_control(struct __sk_buff* skb, const struct bh_packet* packet)
{
    struct bh_address target;
    if (!bh_is_link_control(packet))
        return 0;
    if (packet->protocol != IPPROTO_ICMPV6 || bh_is_for_the_link(packet))
        return 1;
    if (skb->len > BH_SOLICITATION_BYTES || bpf_skb_load_bytes(skb, packet->transport + 8, &target, sizeof(target)))
        return 0;
    if (packet->icmp_type == BH_ICMPV6_NEIGHBOUR_SOLICITATION)
        return bh_is_same(&target, &packet->destination);
    if (packet->icmp_type != BH_ICMPV6_NEIGHBOUR_ADVERTISEMENT)
        return 0;
    /* From any address of the interface (RFC 4861, 4.4). */
    const __u32* about = bh_const_words(&target);
    const __u32* from = bh_const_words(&packet->source);
    return bh_is_link_local(&packet->source) || (about[0] == from[0] && about[1] == from[1]);
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

/* Errors about another packet, which they quote. A redirect is one (RFC 792); ICMPv6's are below 128. */
static __always_inline int bh_is_icmp_error(const struct bh_packet* packet)
{
    if (packet->headless)
        return 0;
    if (packet->protocol == IPPROTO_ICMPV6)
        return packet->icmp_type < BH_ICMPV6_ECHO || packet->icmp_type == BH_ICMPV6_REDIRECT;
    if (packet->protocol != IPPROTO_ICMP)
        return 0;
    switch (packet->icmp_type) {
    case BH_ICMP_UNREACHABLE:
    case BH_ICMP_SOURCE_QUENCH:
    case BH_ICMP_REDIRECT:
    case BH_ICMP_TIME_EXCEEDED:
    case BH_ICMP_PARAMETER_PROBLEM: return 1;
    default: return 0;
    }
}

static __always_inline void bh_tuple_of_quoted(const struct bh_packet* quoted, struct bpf_sock_tuple* tuple, int v4)
{
    __builtin_memset(tuple, 0, sizeof(*tuple));
    if (v4) {
        tuple->ipv4.saddr = bh_const_words(&quoted->destination)[3];
        tuple->ipv4.daddr = bh_const_words(&quoted->source)[3];
        tuple->ipv4.sport = bpf_htons(quoted->destination_port);
        tuple->ipv4.dport = bpf_htons(quoted->source_port);
        return;
    }
    __builtin_memcpy(tuple->ipv6.saddr, &quoted->destination, 16);
    __builtin_memcpy(tuple->ipv6.daddr, &quoted->source, 16);
    tuple->ipv6.sport = bpf_htons(quoted->destination_port);
    tuple->ipv6.dport = bpf_htons(quoted->source_port);
}

static __always_inline void bh_guard_asks_now(__u32 asks)
{
    __u32 zero = 0;
    __u32* flag = bpf_map_lookup_elem(&bh_guard_asks, &zero);
    if (flag)
        *flag = asks;
}

/* A connection, or an attempt at one: not a listener, which says nothing of the packet that is quoted. */
static __noinline int bh_has_tcp_socket(struct __sk_buff* skb, const struct bh_packet* quoted, int v4)
{
    struct bpf_sock_tuple tuple;
    int found = 0;
    bh_tuple_of_quoted(quoted, &tuple, v4);
    bh_guard_asks_now(1);
    struct bpf_sock* sock =
        bpf_skc_lookup_tcp(skb, &tuple, v4 ? sizeof(tuple.ipv4) : sizeof(tuple.ipv6), BH_CURRENT_NETNS, 0);
    if (sock) {
        found = sock->state != BH_STATE_LISTEN_GUARD;
        bpf_sk_release(sock);
    }
    bh_guard_asks_now(0);
    return found;
}

static __noinline int bh_has_udp_conversation(struct __sk_buff* skb, const struct bh_packet* quoted, int v4)
{
    struct bpf_sock_tuple tuple;
    int found = 0;
    struct bh_udp_flow_key key = {.remote = quoted->destination,
                                  .remote_port = quoted->destination_port,
                                  .local_port = quoted->source_port,
                                  .netns = guarded_netns};
    __u64 now = bpf_ktime_get_ns();
    if (bh_live_udp_flow(&key, BH_OUTBOUND, now) || bh_live_udp_flow(&key, BH_INBOUND, now))
        return 1;
    bh_tuple_of_quoted(quoted, &tuple, v4);
    bh_guard_asks_now(1);
    struct bpf_sock* sock =
        bpf_sk_lookup_udp(skb, &tuple, v4 ? sizeof(tuple.ipv4) : sizeof(tuple.ipv6), BH_CURRENT_NETNS, 0);
    if (sock) {
        found = sock->state == BH_STATE_ESTABLISHED_GUARD; /* connected, to this very peer */
        bpf_sk_release(sock);
    }
    bh_guard_asks_now(0);
    return found;
}

static __noinline int bh_has_exchange(struct bh_guard_work* work)
{
    struct bh_exchange_key key;
    bh_exchange_of(&work->quoted, &key);
    const struct bh_exchange* exchange = bh_live_exchange(&key, work->now);
    if (!exchange && bh_live_translated(&key, work))
        return 1;
    if (!exchange) {
        bh_turn_round(&key);
        exchange = bh_live_exchange(&key, work->now);
    }
    return exchange && !(exchange->marks & BH_REFUSED_SINCE);
}

/*
 * Whether an ICMP error is about something that this host was allowed to send, or to let through. It is for who sent
 * that (RFC 792; RFC 4443, 2.2): to anybody else it would carry whatever follows the header that it quotes.
 */
__noinline int bh_error_is_awaited(struct __sk_buff* skb)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return 0;
    int v4 = work->packet.protocol == IPPROTO_ICMP;
    if (!bh_read_quoted(skb, &work->quoted, work->packet.transport + 8, v4) ||
        !bh_is_same(&work->quoted.source, &work->packet.destination))
        return 0;
    if (bh_has_exchange(work))
        return 1;
    if (work->quoted.headless)
        return 0;
    if (work->quoted.protocol == IPPROTO_TCP)
        return bh_has_tcp_socket(skb, &work->quoted, v4);
    if (work->quoted.protocol == IPPROTO_UDP)
        return bh_has_udp_conversation(skb, &work->quoted, v4);
    return 0;
}

#endif
