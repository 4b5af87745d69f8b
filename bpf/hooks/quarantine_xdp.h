/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What arrives during a quarantine, dropped where the driver hands it over, before a socket buffer is made of it. It
 * drops nothing but what the guard behind it would drop, by the same judgement: what is for this host's own addresses
 * or for many, and nothing that could not be read. All else goes on to the guard.
 */
#include "bpf/guard/entering.h"

#define BH_FRAME struct xdp_md
#define BH_LOAD_BYTES bpf_xdp_load_bytes /* Linux 5.18 */
#define BH_READER(name) name##_xdp
#include "bpf/guard/read_packet.h"

__noinline int bh_read_frame(struct xdp_md* frame)
{
    struct bh_guard_work* work = bh_current_work();
    return work ? bh_parse_packet_xdp(frame, &work->packet, ETH_HLEN) : 0;
}

SEC("xdp.frags")
int bh_quarantine_in(struct xdp_md* frame)
{
    if (!bh_is_quarantined() || !guard_namespace)
        return XDP_PASS;
    struct bh_guard_work* work = bh_begin_work();
    if (!work || bh_nothing_in_force(work->question.control))
        return XDP_PASS;
    bh_read_frame(frame);
    const struct bh_packet* packet = &work->packet;
    if (packet->kind != BH_FRAME_IP || (!bh_is_for_this_host(packet) && !bh_is_for_many(packet)) ||
        bh_enters_quarantine() == BH_GUARD_PASS)
        return XDP_PASS;
    bh_count(BH_COUNT_GUARD_PACKETS);
    return XDP_DROP;
}
