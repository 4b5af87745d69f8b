/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets that pass through this host. They are judged where they enter, by the addresses that they have before the
 * host's own address translation; what that hides there (a published port of a container) is judged where it leaves.
 */
#ifndef BULKHEAD_BPF_GUARD_FORWARDED_H
#define BULKHEAD_BPF_GUARD_FORWARDED_H

#include "bpf/guard/mark.h"
#include "bpf/guard/neighbours.h"

/* `bridged`: it stays on its link, so that link control is what it says. What is routed does not (RFC 4861). */
__noinline int bh_forwarded(struct __sk_buff* skb, __u32 bridged)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_GUARD_PASS;
    const struct bh_packet* packet = &work->packet;
    if (!guard_namespace || bh_keeps_the_link_up(packet))
        return BH_GUARD_PASS;
    bh_take_as_first(work);
    if (packet->kind != BH_FRAME_IP || packet->source_routed)
        return bh_refuse_packet(BH_FORWARDED);
    if (bridged && bh_is_bridged_link_control(skb, packet))
        return BH_GUARD_PASS;
    /* Also of "packet too big": what it quotes has passed here. */
    if (bh_is_icmp_error(packet) && bh_error_is_awaited(skb))
        return BH_GUARD_PASS;
    return bh_judge_packet(BH_FORWARDED);
}

static __always_inline int bh_passes_through(struct __sk_buff* skb, struct bh_guard_work* work)
{
    int verdict = bh_forwarded(skb, 0);
    if (verdict == BH_GUARD_PASS)
        bh_mark(skb);
    return verdict;
}

#endif
