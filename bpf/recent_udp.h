/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Conversations that others began and that were found under way on this CPU a moment ago. A datagram of a server is
 * looked up three times: where it arrives, where it is read, where it is answered; this spares a look-up in a table of
 * all. What stands here is good for as long as the entry itself would be without a clock, BH_UDP_REFRESH_TICKS, and for
 * its generation: whatever ends a conversation earlier changes the generation first.
 */
#ifndef BULKHEAD_BPF_RECENT_UDP_H
#define BULKHEAD_BPF_RECENT_UDP_H

#include "bpf/udp_flows.h"

#define BH_RECENT_UDP_BITS 8

/*
 * Only programs on one CPU write and read a place, but they may interrupt each other, and from Linux 5.11 on tasks may
 * take the CPU from each other within them. So each counts itself in and out, and nobody writes beside another.
 */
struct bh_recent_udp {
    __u32 begun, done; /* the same: nobody is writing */
    __u32 generation;
    __u32 answered;
    __u64 word[3]; /* union bh_fresh_udp_key */
    __u64 last_tick;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1 << BH_RECENT_UDP_BITS);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct bh_recent_udp));
} bh_recent_udp SEC(".maps");

static __always_inline struct bh_recent_udp* bh_recent_udp_at(const union bh_fresh_udp_key* fresh)
{
    __u64 folded = fresh->word[0] ^ fresh->word[1] ^ fresh->word[2];
    __u32 at = ((__u32)(folded ^ folded >> 32) * 0x9e3779b1) >> (32 - BH_RECENT_UDP_BITS);
    return bpf_map_lookup_elem(&bh_recent_udp, &at);
}

static __always_inline int bh_is_written(const struct bh_recent_udp* recent, __u32 begun)
{
    return *(const volatile __u32*)&recent->done != begun;
}

/* That it is under way (bh_udp_flow_is_under_way). `answered`: and that this end has read of it, and answered. */
static __always_inline int bh_is_recent_udp(const union bh_fresh_udp_key* fresh, struct bh_control control,
                                            int answered)
{
    const struct bh_recent_udp* recent = bh_recent_udp_at(fresh);
    if (!recent)
        return 0;
    __u32 begun = *(const volatile __u32*)&recent->begun;
    if (bh_is_written(recent, begun))
        return 0;
    asm volatile("" ::: "memory");
    if (recent->word[2] != fresh->word[2] || recent->word[1] != fresh->word[1] || recent->word[0] != fresh->word[0] ||
        recent->generation != control.generation || (answered && !recent->answered) ||
        !bh_is_recent_tick(recent->last_tick))
        return 0;
    asm volatile("" ::: "memory");
    return *(const volatile __u32*)&recent->begun == begun;
}

static __always_inline void bh_note_recent_udp(const union bh_fresh_udp_key* fresh, __u32 generation, __u64 last_tick,
                                               int answered)
{
    struct bh_recent_udp* recent = bh_recent_udp_at(fresh);
    if (!recent)
        return;
    __u32 begun = *(volatile __u32*)&recent->begun;
    if (bh_is_written(recent, begun))
        return;
    __sync_fetch_and_add(&recent->begun, 1);
    if (*(volatile __u32*)&recent->begun == begun + 1) { /* else another began between the two */
        asm volatile("" ::: "memory");
        recent->generation = generation;
        recent->word[0] = fresh->word[0];
        recent->word[1] = fresh->word[1];
        recent->word[2] = fresh->word[2];
        recent->last_tick = last_tick;
        recent->answered = answered;
        asm volatile("" ::: "memory");
    }
    __sync_fetch_and_add(&recent->done, 1);
}

/*
 * Whether a conversation that others began goes on without a verdict, by this CPU's places or by the table. `answered`:
 * for an answer, or for what is read. Each member is read once, so that what is noted is what was judged: another CPU
 * may settle it anew meanwhile.
 */
static __always_inline int bh_inbound_udp_goes_on(const union bh_fresh_udp_key* fresh, struct bh_control control,
                                                  int answered)
{
    if (bh_is_recent_udp(fresh, control, answered))
        return 1;
    const volatile struct bh_udp_flow* flow = bh_find_udp_flow(&fresh->key, BH_INBOUND);
    if (!flow || !bh_udp_flow_settled((const struct bh_udp_flow*)flow, control))
        return 0;
    __u64 last_tick = flow->last_tick;
    int is_answered = flow->answered;
    if (!bh_is_recent_tick(last_tick) || (answered && !is_answered))
        return 0;
    bh_note_recent_udp(fresh, control.generation, last_tick, is_answered);
    return 1;
}

#endif
