/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Exchanges of packets that no socket of this host accounts for: pings, other protocols, forwarded connections. The
 * entry that the first packet made lets the answers pass, and spares later packets the verdict while the policy is the
 * same.
 */
#ifndef BULKHEAD_BPF_GUARD_FLOWS_H
#define BULKHEAD_BPF_GUARD_FLOWS_H

#include "bpf/guard/packet.h"

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

static __always_inline struct bh_exchange* bh_live_exchange(const struct bh_exchange_key* key, __u64 now)
{
    struct bh_exchange* exchange = bpf_map_lookup_elem(&bh_exchanges, key);
    if (!exchange)
        return NULL;
    __s64 longest = key->protocol == IPPROTO_TCP ? BH_EXCHANGE_TCP_IDLE_NS : BH_EXCHANGE_IDLE_NS;
    __s64 idle = (__s64)(now - exchange->last_ns); /* below 0: another CPU has seen a packet since */
    if (idle > longest)
        return NULL;
    if (idle >= (__s64)BH_EXCHANGE_REFRESH_NS)
        exchange->last_ns = now;
    return exchange;
}

#endif
