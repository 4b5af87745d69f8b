/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Conversations of unconnected UDP sockets: who began, and when something was last seen. An entry that lives lets the
 * other side's datagrams pass as replies, and spares the beginner's later datagrams the verdict when it cannot have
 * changed.
 */
#ifndef BULKHEAD_BPF_UDP_FLOWS_H
#define BULKHEAD_BPF_UDP_FLOWS_H

#include "bpf/verdict.h"

#define BH_UDP_REFRESH_NS (1000ull * 1000 * 1000)

/* The entry, or NULL when there is none or it is idle too long. */
static __always_inline struct bh_udp_flow* bh_live_udp_flow(const struct bh_udp_flow_key* key, __u64 now)
{
    struct bh_udp_flow* flow = bpf_map_lookup_elem(&bh_udp_flows, key);
    if (!flow || now - flow->last_ns > BH_UDP_IDLE_NS)
        return NULL;
    return flow;
}

/* A datagram of the conversation passed. Writing only once a second keeps the line shared between CPUs. */
static __always_inline void bh_touch_udp_flow(struct bh_udp_flow* flow, __u64 now)
{
    if (now - flow->last_ns >= BH_UDP_REFRESH_NS)
        flow->last_ns = now;
}

static __always_inline int bh_udp_flow_settled(const struct bh_udp_flow* flow, struct bh_control control)
{
    return flow->settled && flow->generation == control.generation;
}

/* A conversation that this datagram begins. */
static __noinline int bh_begin_udp_flow(const struct bh_udp_flow_key* key, __u64 now, __u64 cookie,
                                        const struct bh_question* question, const struct bh_subject* subject)
{
    struct bh_udp_flow flow = {.opened_ns = now, .last_ns = now, .cookie = cookie};
    flow.generation = question->control.generation;
    flow.direction = question->direction;
    if (subject)
        flow.subject = *subject;
    if (bpf_map_update_elem(&bh_udp_flows, key, &flow, BPF_ANY)) {
        bh_count(BH_COUNT_UDP_FLOWS_FULL);
        return 0;
    }
    return 0;
}

#endif
