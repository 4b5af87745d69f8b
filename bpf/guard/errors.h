/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ICMP errors: what the packet that they quote was to this host, and what the kernel will do about it. */
#ifndef BULKHEAD_BPF_GUARD_ERRORS_H
#define BULKHEAD_BPF_GUARD_ERRORS_H

#include "bpf/guard/neighbours.h"
#include "bpf/quoted.h"
#include "bpf/udp_flows.h"

#define BH_CURRENT_NETNS (-1)
#define BH_STATE_ESTABLISHED_GUARD 1
#define BH_STATE_LISTEN_GUARD 10

/* What an error is to the guard. */
#define BH_ERROR_FORGED (-1)   /* no true one: in pieces, or what it quotes cannot be read as the kernel reads it */
#define BH_ERROR_NOT_AWAITED 0 /* about nothing that left this host, as far as is known */
#define BH_ERROR_AWAITED 1

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
    if (bh_live_exchange(&key, work->now))
        return 1;
    bh_turn_round(&key);
    return bh_live_exchange(&key, work->now) != NULL;
}

/*
 * Where the quoted packet begins; 0: none is quoted, negative: nowhere that could be told. A redirect of IPv6 has it in
 * an option (RFC 4861, 4.5), the first or the one after the link-layer address.
 */
static __noinline int bh_find_quoted(struct __sk_buff* skb, const struct bh_packet* error)
{
    __u32 at = error->transport + 8;
    __u8 option[2];
    if (error->protocol != IPPROTO_ICMPV6 || error->icmp_type != BH_ICMPV6_REDIRECT)
        return (int)at;
    at += 32; /* target and destination */
    if (bpf_skb_load_bytes(skb, at, option, sizeof(option)))
        return 0;
    if (option[0] != BH_ND_REDIRECTED_HEADER) {
        if (!option[1])
            return -1;
        at += option[1] * 8;
        if (bpf_skb_load_bytes(skb, at, option, sizeof(option)))
            return 0;
        if (option[0] != BH_ND_REDIRECTED_HEADER)
            return -1;
    }
    return (int)at + 8;
}

/* An error about a datagram makes the kernel ask the inbound door: see bpf/quoted.h. */
static __noinline int bh_mark_quoted_datagram(struct __sk_buff* skb, const struct bh_packet* quoted)
{
    __u8 ports[4];
    if (bpf_skb_load_bytes(skb, quoted->transport, ports, sizeof(ports)))
        return 0; /* the kernel does not read it either */
    bh_mark_quoted(&quoted->destination, (__u16)(ports[0] << 8 | ports[1]), (__u16)(ports[2] << 8 | ports[3]));
    return 0;
}

/* Whether an ICMP error is about something that this host was allowed to send, or to let through: BH_ERROR_*. */
__noinline int bh_what_error_is(struct __sk_buff* skb)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_ERROR_NOT_AWAITED;
    int v4 = work->packet.protocol == IPPROTO_ICMP;
    int at = bh_find_quoted(skb, &work->packet);
    if (at == 0)
        return BH_ERROR_NOT_AWAITED;
    /* None needs pieces: they quote what fits into 576 (RFC 1812) or 1280 bytes (RFC 4443). */
    if (work->packet.fragmented || at < 0 || !bh_read_quoted(skb, &work->quoted, (__u32)at, v4))
        return BH_ERROR_FORGED;
    if (work->quoted.protocol == IPPROTO_UDP)
        bh_mark_quoted_datagram(skb, &work->quoted);
    if (bh_has_exchange(work))
        return BH_ERROR_AWAITED;
    if (work->quoted.headless)
        return BH_ERROR_NOT_AWAITED;
    if (work->quoted.protocol == IPPROTO_TCP)
        return bh_has_tcp_socket(skb, &work->quoted, v4);
    if (work->quoted.protocol == IPPROTO_UDP)
        return bh_has_udp_conversation(skb, &work->quoted, v4);
    return BH_ERROR_NOT_AWAITED;
}

#endif
