/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What containers send in the host's name, whose addresses the host translates where it leaves (masquerade). It was
 * judged, and is remembered, as what it was before. What comes back has the host's address: TCP and UDP is left to the
 * doors, whose sockets it is not for; the answers to pings and the errors would be refused where they enter. So what
 * they answer is remembered as it leaves, too.
 */
#ifndef BULKHEAD_BPF_GUARD_TRANSLATED_H
#define BULKHEAD_BPF_GUARD_TRANSLATED_H

#include "bpf/guard/judge.h"

/* A later segment of a connection, of which no more than a glance is taken. */
static __always_inline int bh_is_later_segment(struct __sk_buff* skb, __u32 link)
{
    void* data = (void*)(long)skb->data;
    void* end = (void*)(long)skb->data_end;
    const struct tcphdr* tcp;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        const struct iphdr* ip = data + (link & 15);
        tcp = (const void*)(ip + 1);
        if ((const void*)(tcp + 1) > end || *(const __u8*)ip != BH_IPV4_PLAIN || ip->protocol != IPPROTO_TCP)
            return 0;
    } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
        const struct ipv6hdr* ip = data + (link & 15);
        tcp = (const void*)(ip + 1);
        if ((const void*)(tcp + 1) > end || ip->nexthdr != IPPROTO_TCP)
            return 0;
    } else {
        return 0;
    }
    return !tcp->syn || tcp->ack;
}

/* Of what leaves with the guard's mark. Not static: verified once, and with a frame of its own. */
__noinline int bh_note_translated(struct __sk_buff* skb, __u32 link)
{
    if (bh_is_later_segment(skb, link))
        return 0;
    struct bh_guard_work* work = bh_begin_work();
    if (!work || bh_nothing_in_force(work->question.control))
        return 0;
    bh_read_packet(skb, link); /* its headers are its own since it entered */
    const struct bh_packet* packet = &work->packet;
    int typed = packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6;
    if (packet->kind != BH_FRAME_IP || packet->headless ||
        (typed && bh_icmp_answer_to(packet->icmp_type) == BH_ICMP_NO_ANSWER) ||
        (packet->protocol == IPPROTO_TCP && !bh_is_opening_segment(packet)) ||
        !(bh_own_address(&packet->source) & BH_OWN_UNICAST))
        return 0;
    bh_exchange_of(packet, &work->key);
    struct bh_translated* held = bpf_map_lookup_elem(&bh_translated, &work->key);
    if (held && held->icmp_type == packet->icmp_type) {
        held->generation = work->question.control.generation;
        if ((__s64)(work->now - held->last_ns) >= (__s64)BH_EXCHANGE_REFRESH_NS)
            held->last_ns = work->now;
        return 0;
    }
    struct bh_translated translated = {
        .last_ns = work->now, .generation = work->question.control.generation, .icmp_type = packet->icmp_type};
    bpf_map_update_elem(&bh_translated, &work->key, &translated, BPF_ANY);
    return 0;
}

/* Sent in the host's name for others, under the policy that is in force; NULL: not, or too long ago. */
static __always_inline const struct bh_translated* bh_live_translated(const struct bh_exchange_key* key,
                                                                      const struct bh_guard_work* work)
{
    const struct bh_translated* translated = bpf_map_lookup_elem(&bh_translated, key);
    if (!translated || translated->generation != work->question.control.generation ||
        (__s64)(work->now - translated->last_ns) > (__s64)BH_TRANSLATED_NS)
        return NULL;
    return translated;
}

/* The answer to somebody else's ping, where it enters. */
static __noinline int bh_answers_translated(struct bh_guard_work* work)
{
    const struct bh_packet* packet = &work->packet;
    struct bh_exchange_key key;
    if ((packet->protocol != IPPROTO_ICMP && packet->protocol != IPPROTO_ICMPV6) || packet->headless)
        return 0;
    bh_exchange_of(packet, &key);
    bh_turn_round(&key);
    const struct bh_translated* translated = bh_live_translated(&key, work);
    return translated && bh_icmp_answer_to(translated->icmp_type) == packet->icmp_type;
}

#endif
