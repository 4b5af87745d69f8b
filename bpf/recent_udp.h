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

struct bh_recent_udp {
    __u32 writes; /* odd: being written; whoever was interrupted by a writer finds it changed */
    __u32 generation;
    __u64 word[3]; /* union bh_fresh_udp_key */
    __u64 last_tick;
    __u64 answered;
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

/* That it is under way (bh_udp_flow_is_under_way). `answered`: and that this end has read of it, and answered. */
static __always_inline int bh_is_recent_udp(const union bh_fresh_udp_key* fresh, struct bh_control control,
                                            int answered)
{
    const struct bh_recent_udp* recent = bh_recent_udp_at(fresh);
    if (!recent)
        return 0;
    __u32 writes = *(const volatile __u32*)&recent->writes;
    asm volatile("" ::: "memory");
    if (recent->word[2] != fresh->word[2] || recent->word[1] != fresh->word[1] || recent->word[0] != fresh->word[0] ||
        recent->generation != control.generation || (answered && !recent->answered) ||
        bpf_jiffies64() - recent->last_tick >= BH_UDP_REFRESH_TICKS)
        return 0;
    asm volatile("" ::: "memory");
    return !(writes & 1) && *(const volatile __u32*)&recent->writes == writes;
}

/* `flow` was found under way. Of the generation that it was found to be of: another CPU may settle it anew meanwhile.
 */
static __always_inline void bh_note_recent_udp(const union bh_fresh_udp_key* fresh, struct bh_control control,
                                               const struct bh_udp_flow* flow)
{
    struct bh_recent_udp* recent = bh_recent_udp_at(fresh);
    if (!recent || (*(volatile __u32*)&recent->writes & 1))
        return;
    *(volatile __u32*)&recent->writes += 1;
    asm volatile("" ::: "memory");
    recent->generation = control.generation;
    recent->word[0] = fresh->word[0];
    recent->word[1] = fresh->word[1];
    recent->word[2] = fresh->word[2];
    recent->last_tick = flow->last_tick;
    recent->answered = flow->answered;
    asm volatile("" ::: "memory");
    *(volatile __u32*)&recent->writes += 1;
}

#endif
