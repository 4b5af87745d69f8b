/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A host that is cut off: every packet is asked, also of sockets that were let pass before; only failsafes remain. */
#ifndef BULKHEAD_BPF_GUARD_QUARANTINE_H
#define BULKHEAD_BPF_GUARD_QUARANTINE_H

#include "bpf/guard/neighbours.h"

static __always_inline int bh_needs_no_verdict(const struct bh_packet* packet)
{
    if (packet->kind == BH_FRAME_ARP || (packet->kind == BH_FRAME_OTHER && bh_is_link_protocol(packet->ether_type)))
        return 1;
    return packet->kind == BH_FRAME_IP && (bh_is_link_control(packet) || bh_is_path_mtu(packet));
}

/* Without state: a packet may pass when its exchange could have been begun by either end. */
static __noinline int bh_quarantine_allows(struct bh_guard_work* work, __u8 direction)
{
    if (work->packet.kind != BH_FRAME_IP || work->packet.source_routed)
        return 0;
    bh_take_as_first(work);
    work->direction = direction;
    bh_ask_about_exchange(work, direction);
    bh_judge(&work->question, &work->answer);
    if (work->answer.verdict == BH_ALLOWED)
        return 1;
    bh_turn_round(&work->key);
    bh_ask_about_exchange(work, direction == BH_OUTBOUND ? BH_INBOUND : BH_OUTBOUND);
    bh_judge(&work->question, &work->answer);
    return work->answer.verdict == BH_ALLOWED;
}

static __noinline int bh_quarantine_refuses(struct bh_guard_work* work, __u8 direction)
{
    bh_take_as_first(work);
    work->direction = direction;
    bh_judge_exchange(work); /* the answer that is told, with its reason */
    bh_tell_packet_denied(work);
    return BH_GUARD_DROP;
}

/* `made_by_kernel`: by its own or a stream socket, not by hand in a raw or packet socket, nor by somebody else. */
static __noinline int bh_leaves_quarantine(struct bh_guard_work* work, __u32 made_by_kernel)
{
    const struct bh_packet* packet = &work->packet;
    if (bh_needs_no_verdict(packet))
        return BH_GUARD_PASS;
    if (made_by_kernel && packet->protocol == IPPROTO_TCP && (packet->tcp_flags & BH_TCP_RST))
        return BH_GUARD_PASS; /* sessions that are cut: the other end is told */
    return bh_quarantine_allows(work, BH_OUTBOUND) ? BH_GUARD_PASS : bh_quarantine_refuses(work, BH_OUTBOUND);
}

static __noinline int bh_enters_quarantine(struct bh_guard_work* work)
{
    if (bh_needs_no_verdict(&work->packet))
        return BH_GUARD_PASS;
    return bh_quarantine_allows(work, BH_INBOUND) ? BH_GUARD_PASS : bh_quarantine_refuses(work, BH_INBOUND);
}

#endif
