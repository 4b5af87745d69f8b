/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Exchanges of packets that no socket of this host accounts for: pings, other protocols, forwarded connections. The
 * entry that the first packet made lets the answers pass, and spares later packets the verdict while the policy is the
 * same.
 *
 * One that lives is never pushed out by another: as with conversations of UDP sockets (udp_flows.h) each has a place,
 * and where there is none the first packet is refused, with the reason FULL. Who begins has a share of the places. What
 * needs none, since its answers would pass anyway, and TCP, whose ends repeat what is refused, are in another table,
 * from which the least recently used goes.
 */
#ifndef BULKHEAD_BPF_GUARD_FLOWS_H
#define BULKHEAD_BPF_GUARD_FLOWS_H

#include "bpf/guard/packet.h"
#include "bpf/shares.h"

#define BH_EXCHANGE_REFRESH_NS (1000ull * 1000 * 1000)

static __always_inline void bh_exchange_of(const struct bh_packet* packet, struct bh_exchange_key* key)
{
    __builtin_memset(key, 0, sizeof(*key));
    key->from = packet->source;
    key->to = packet->destination;
    key->protocol = packet->protocol;
    if (packet->headless)
        return;
    key->from_port = packet->source_port;
    key->to_port = packet->destination_port;
}

/* The same exchange, as a packet the other way would name it. An echo keeps its identifier in from_port both ways. */
static __always_inline void bh_turn_round(struct bh_exchange_key* key)
{
    struct bh_address from = key->from;
    key->from = key->to;
    key->to = from;
    if (key->protocol == IPPROTO_TCP || key->protocol == IPPROTO_UDP) {
        __u16 port = key->from_port;
        key->from_port = key->to_port;
        key->to_port = port;
    }
}

enum bh_exchange_found { BH_EXCHANGE_NEW = 0, BH_EXCHANGE_KNOWN = 1, BH_EXCHANGE_SETTLED = 2 };

#define BH_ICMP_NO_ANSWER 255

/* RFC 792, RFC 950, RFC 4443, RFC 8335. */
static __always_inline __u8 bh_icmp_answer_to(__u8 type)
{
    switch (type) {
    case BH_ICMP_ECHO: return BH_ICMP_ECHO_REPLY;
    case BH_ICMP_TIMESTAMP: return BH_ICMP_TIMESTAMP_REPLY;
    case BH_ICMP_ADDRESS_MASK: return BH_ICMP_ADDRESS_MASK_REPLY;
    case BH_ICMP_EXTENDED_ECHO: return BH_ICMP_EXTENDED_ECHO_REPLY;
    case BH_ICMPV6_ECHO: return BH_ICMPV6_ECHO_REPLY;
    case BH_ICMPV6_EXTENDED_ECHO: return BH_ICMPV6_EXTENDED_ECHO_REPLY;
    default: return BH_ICMP_NO_ANSWER;
    }
}

/* Since the last packet; below 0 when another CPU has seen one since `now`. */
static __always_inline __s64 bh_exchange_idle_ns(const struct bh_exchange* exchange, __u64 now)
{
    return (__s64)(now - exchange->last_ns);
}

static __always_inline int bh_exchange_lives(const struct bh_exchange_key* key, const struct bh_exchange* exchange,
                                             __u64 now)
{
    return bh_exchange_idle_ns(exchange, now) <= (__s64)BH_EXCHANGE_LONGEST_IDLE_NS(*key);
}

static __always_inline struct bh_exchange* bh_kept_exchange(const struct bh_exchange_key* key)
{
    return key->protocol == IPPROTO_TCP ? NULL : bpf_map_lookup_elem(&bh_exchanges, key);
}

static __noinline struct bh_exchange* bh_live_exchange(const struct bh_exchange_key* key, __u64 now)
{
    struct bh_exchange* exchange = bh_kept_exchange(key);
    if (!exchange || !bh_exchange_lives(key, exchange, now))
        exchange = bpf_map_lookup_elem(&bh_spare_exchanges, key);
    if (!exchange || !bh_exchange_lives(key, exchange, now))
        return NULL;
    if (bh_exchange_idle_ns(exchange, now) >= (__s64)BH_EXCHANGE_REFRESH_NS)
        exchange->last_ns = now;
    return exchange;
}

/* True when the place at `at` was free or could be freed. Not static, as the next: verified once (Linux 5.6). */
__noinline int bh_free_exchange_place(__u32 at, __u64 now)
{
    struct bh_exchange_key* place = bpf_map_lookup_elem(&bh_exchange_places, &at);
    if (!place)
        return 0;
    struct bh_exchange_key holder = *place;
    struct bh_exchange* exchange = bpf_map_lookup_elem(&bh_exchanges, &holder);
    if (exchange) {
        int goes_on = exchange->answered && exchange->last_ns - exchange->opened_ns > BH_SHORT_NS;
        if (!bh_may_go(goes_on, bh_exchange_idle_ns(exchange, now), BH_EXCHANGE_IDLE_NS))
            return 0;
        bpf_map_delete_elem(&bh_exchanges, &holder);
    }
    return 1;
}

/* A free place, or BH_EXCHANGES. */
__noinline int bh_find_exchange_place(__u32 share)
{
    __u64 now = bpf_ktime_get_ns();
    __u32 run = 0;
    for (__u32 step = 0; step < BH_PLACES_TRIED; step++) {
        __u32 at = bh_place_to_try(&exchange_hand, &run, step, BH_EXCHANGES);
        if (bh_is_in_share(share, at) && bh_free_exchange_place(at, now))
            return (int)at;
    }
    return BH_EXCHANGES;
}

/* Two CPUs may be at one place at once, as with conversations. */
static __always_inline int bh_take_exchange_place(const struct bh_exchange_key* key, __u32 share)
{
    __u32 at = (__u32)bh_find_exchange_place(share);
    struct bh_exchange_key* place = bpf_map_lookup_elem(&bh_exchange_places, &at);
    if (!place)
        return 0;
    *place = *key;
    return 1;
}

#endif
