/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A host that is cut off: every packet is asked, also of sockets that were let pass before; only failsafes remain. */
#ifndef BULKHEAD_BPF_GUARD_QUARANTINE_H
#define BULKHEAD_BPF_GUARD_QUARANTINE_H

#include "bpf/guard/neighbours.h"

/*
 * Without state: a packet may pass when its exchange could have been begun here as it stands, or, a segment of TCP
 * after the first, by the other end.
 */
__noinline int bh_passes_without_state(__u32 direction, __u32 also_answers)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return 0;
    const struct bh_packet* packet = &work->packet;
    if (packet->kind != BH_FRAME_IP || packet->source_routed)
        return 0;
    bh_take_as_first(work);
    work->direction = (__u8)direction;
    bh_ask_about_exchange(work, direction);
    bh_judge(&work->question, &work->answer);
    if (work->answer.verdict == BH_ALLOWED)
        return 1;
    if (!also_answers)
        return 0;
    bh_turn_round(&work->key);
    bh_ask_about_exchange(work, direction == BH_OUTBOUND ? BH_INBOUND : BH_OUTBOUND);
    bh_judge(&work->question, &work->answer);
    return work->answer.verdict == BH_ALLOWED;
}

__noinline int bh_quarantine_refuses(__u32 direction)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_GUARD_DROP;
    bh_take_as_first(work);
    work->direction = (__u8)direction;
    bh_judge_exchange(); /* the answer that is told, with its reason */
    bh_tell_packet_denied();
    return BH_GUARD_DROP;
}

/*
 * `made_by_kernel`: by its own or a stream or datagram socket, from an address of this host; not by hand in a raw or
 * packet socket, nor by somebody else.
 */
__noinline int bh_leaves_quarantine(__u32 made_by_kernel)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_GUARD_PASS;
    const struct bh_packet* packet = &work->packet;
    if (bh_keeps_the_link_up(packet))
        return BH_GUARD_PASS;
    if (packet->kind == BH_FRAME_IP &&
        (made_by_kernel ? bh_is_link_control(packet) || bh_is_path_mtu(packet) : bh_is_link_control_by_hand(packet)))
        return BH_GUARD_PASS;
    if (made_by_kernel && packet->protocol == IPPROTO_TCP && (packet->tcp_flags & BH_TCP_RST))
        return BH_GUARD_PASS; /* sessions that are cut: the other end is told */
    __u32 also_answers = made_by_kernel && packet->protocol == IPPROTO_TCP && !bh_is_opening_segment(packet);
    return bh_passes_without_state(BH_OUTBOUND, also_answers) ? BH_GUARD_PASS : bh_quarantine_refuses(BH_OUTBOUND);
}

__noinline int bh_enters_quarantine(void)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_GUARD_PASS;
    const struct bh_packet* packet = &work->packet;
    if (bh_keeps_the_link_up(packet) ||
        (packet->kind == BH_FRAME_IP && (bh_is_link_control(packet) || bh_is_path_mtu(packet))))
        return BH_GUARD_PASS;
    return bh_passes_without_state(BH_INBOUND, !bh_is_opening_segment(packet)) ? BH_GUARD_PASS
                                                                               : bh_quarantine_refuses(BH_INBOUND);
}

#endif
