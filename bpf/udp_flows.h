/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Conversations of unconnected UDP sockets: who began, and when something was last seen. An entry that lives lets the
 * other side's datagrams pass as replies, and spares the beginner's later datagrams the verdict when it cannot have
 * changed.
 *
 * A conversation that lives is never pushed out by another. Each has a place in a ring; a new one takes the place of
 * one that has ended, found by a hand that goes round. When all that the hand meets live, there is no room: the new
 * conversation passes without an entry if the planes would let its replies pass anyway, and is refused at its first
 * datagram, with the reason FULL, if they would not. What the other side of the host does (flood us with datagrams from
 * many ports) takes no room from what this side began: there are two tables. Nor does one who may begin many leave
 * nothing to others: each has a share of the places (bh_share_of_*), and what stays on the host, to which anybody is
 * free and which passes without an entry, has every other one.
 */
#ifndef BULKHEAD_BPF_UDP_FLOWS_H
#define BULKHEAD_BPF_UDP_FLOWS_H

#include "bpf/shares.h"
#include "bpf/verdict.h"

/* Timer interrupts (CONFIG_HZ: 100 to 1000 a second). To read their number is one load, to read a clock is not. */
#define BH_UDP_REFRESH_TICKS 64

/*
 * A key that is made just before it is looked up. The table reads eight bytes at a time, and what was stored in smaller
 * parts a moment ago the processor cannot hand on: it waits until the parts have reached its cache.
 */
union bh_fresh_udp_key {
    struct bh_udp_flow_key key;
    __u64 word[3];
};

/* Two neighbours in memory, `first` at the lower address. */
static __always_inline __u64 bh_pair(__u32 first, __u32 second)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (__u64)second << 32 | first;
#else
    return (__u64)first << 32 | second;
#endif
}

static __always_inline void bh_set_key_v4(union bh_fresh_udp_key* fresh, __u32 remote)
{
    fresh->word[0] = 0;
    fresh->word[1] = bh_pair(BH_V4_MARK, remote);
}

static __always_inline void bh_set_key_v6(union bh_fresh_udp_key* fresh, __u32 a, __u32 b, __u32 c, __u32 d)
{
    fresh->word[0] = bh_pair(a, b);
    fresh->word[1] = bh_pair(c, d);
}

/* Ports in host byte order. */
static __always_inline void bh_set_key_ports(union bh_fresh_udp_key* fresh, __u16 remote, __u16 local, __u32 netns)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    __u32 ports = (__u32)local << 16 | remote;
#else
    __u32 ports = (__u32)remote << 16 | local;
#endif
    fresh->word[2] = bh_pair(ports, netns);
}

static __always_inline struct bh_udp_flow* bh_find_udp_flow(const struct bh_udp_flow_key* key, __u8 direction)
{
    return direction == BH_OUTBOUND ? bpf_map_lookup_elem(&bh_udp_out, key) : bpf_map_lookup_elem(&bh_udp_in, key);
}

/* Since the last datagram; below 0 when another CPU has seen one since `now`. */
static __always_inline __s64 bh_udp_idle_ns(const struct bh_udp_flow* flow, __u64 now)
{
    return (__s64)(now - flow->last_ns);
}

/* The entry, or NULL when there is none or it is idle too long. `direction`: who began. */
static __always_inline struct bh_udp_flow* bh_live_udp_flow(const struct bh_udp_flow_key* key, __u8 direction,
                                                            __u64 now)
{
    struct bh_udp_flow* flow = bh_find_udp_flow(key, direction);
    if (!flow || bh_udp_idle_ns(flow, now) > (__s64)BH_UDP_IDLE_NS)
        return NULL;
    return flow;
}

static __always_inline int bh_is_recent_tick(__u64 tick)
{
    return bpf_jiffies64() - tick < BH_UDP_REFRESH_TICKS;
}

static __always_inline int bh_udp_flow_was_touched(const struct bh_udp_flow* flow)
{
    return bh_is_recent_tick(flow->last_tick);
}

/* A datagram of the conversation passed. Writing only now and then keeps the line shared between CPUs. */
static __always_inline void bh_touch_udp_flow(struct bh_udp_flow* flow, __u64 now)
{
    if (bh_udp_flow_was_touched(flow))
        return;
    flow->last_ns = now;
    flow->last_tick = bpf_jiffies64();
}

static __always_inline void bh_reply_seen(struct bh_udp_flow* flow, __u64 now)
{
    if (!flow->answered)
        flow->answered = 1;
    bh_touch_udp_flow(flow, now);
}

static __always_inline int bh_udp_flow_settled(const struct bh_udp_flow* flow, struct bh_control control)
{
    return *(const volatile __u32*)&flow->generation == (control.generation | BH_UDP_SETTLED);
}

/* Whether a datagram was let pass, or told of, in this generation. */
static __always_inline int bh_udp_flow_is_known_to(const struct bh_udp_flow* flow, struct bh_control control)
{
    return (flow->generation & ~BH_UDP_SETTLED) == control.generation;
}

/* Of what came in: a process has read of it (or had answered it before the programs knew who read). */
static __always_inline int bh_udp_flow_may_be_answered(const struct bh_udp_flow* flow)
{
    return flow->heard || flow->answered;
}

/* What let a datagram pass is good for the next ones, unless it depends on the process, or on the time. */
static __always_inline void bh_settle_udp_flow(struct bh_udp_flow* flow, __u32 generation, int settled)
{
    *(volatile __u32*)&flow->generation = generation | (settled ? BH_UDP_SETTLED : 0);
}

/*
 * The short way of both doors: a datagram of a conversation that is under way, which the planes in force let pass
 * whoever takes part. No clock is read but during a trial, and nothing written.
 */
static __always_inline int bh_udp_flow_is_under_way(const struct bh_udp_flow* flow, struct bh_control control)
{
    return bh_udp_flow_settled(flow, control) && bh_udp_flow_was_touched(flow);
}

static __always_inline int bh_udp_flow_may_go(const struct bh_udp_flow* flow, __u64 now)
{
    return bh_may_go(flow->answered && flow->last_ns - flow->opened_ns > BH_SHORT_NS, bh_udp_idle_ns(flow, now),
                     BH_UDP_IDLE_NS);
}

static __always_inline void bh_forget_udp_flow(const struct bh_udp_flow_key* key, __u8 direction)
{
    if (direction == BH_OUTBOUND)
        bpf_map_delete_elem(&bh_udp_out, key);
    else
        bpf_map_delete_elem(&bh_udp_in, key);
}

static __always_inline struct bh_udp_flow_key* bh_udp_place(__u8 direction, __u32 at)
{
    return direction == BH_OUTBOUND ? bpf_map_lookup_elem(&bh_udp_out_places, &at)
                                    : bpf_map_lookup_elem(&bh_udp_in_places, &at);
}

/* True when the place at `at` was free or could be freed. Not static: verified once (Linux 5.6). */
__noinline int bh_free_udp_place(__u8 direction, __u32 at, __u64 now)
{
    struct bh_udp_flow_key* place = bh_udp_place(direction, at);
    if (!place)
        return 0;
    struct bh_udp_flow_key holder = *place;
    struct bh_udp_flow* flow = bh_find_udp_flow(&holder, direction);
    if (flow) {
        if (!bh_udp_flow_may_go(flow, now))
            return 0;
        bh_forget_udp_flow(&holder, direction);
    }
    return 1;
}

#define BH_NO_PLACE BH_UDP_FLOWS

/* A free place, or BH_NO_PLACE. Not static: verified once, not for every way that leads here (Linux 5.6). */
__noinline int bh_find_udp_place(__u32 direction, __u32 share)
{
    __u64 now = bpf_ktime_get_ns();
    __u32 run = 0;
    for (__u32 step = 0; step < BH_PLACES_TRIED; step++) {
        __u32 at = bh_place_to_try(&udp_hand[direction & 1], &run, step, BH_UDP_FLOWS);
        if (bh_is_in_share(share, at) && bh_free_udp_place((__u8)direction, at, now))
            return (int)at;
    }
    return BH_NO_PLACE;
}

/* Two CPUs may be at one place at once; what then has no place is removed by the agent when it has ended. */
static __always_inline int bh_take_udp_place(const struct bh_udp_flow_key* key, __u8 direction, __u32 share)
{
    struct bh_udp_flow_key* place = bh_udp_place(direction, (__u32)bh_find_udp_place(direction, share));
    if (!place)
        return 0;
    *place = *key;
    return 1;
}

/* A conversation that this datagram begins. 0: there is no room to remember it. */
static __noinline int bh_begin_udp_flow(const struct bh_udp_flow_key* key, __u64 now, __u64 cookie,
                                        const struct bh_question* question, const struct bh_subject* subject)
{
    struct bh_udp_flow flow = {.opened_ns = now, .last_ns = now, .cookie = cookie};
    __u8 direction = question->direction;
    struct bh_udp_flow* ended = bh_find_udp_flow(key, direction);
    __u32 share = direction == BH_INBOUND ? bh_share_of_peer(&key->remote)
                  : subject               ? (__u32)bh_share_of_user(subject->uid)
                                          : BH_WHOLE_SHARE;
    flow.generation = question->control.generation;
    flow.direction = direction;
    if (subject)
        flow.subject = *subject;
    if (question->loopback != BH_LOOPBACK_NONE)
        share |= BH_EVERY_OTHER;
    if (!ended && !bh_take_udp_place(key, direction, share)) {
        bh_count(BH_COUNT_UDP_FLOWS_FULL);
        return 0;
    }
    if (direction == BH_OUTBOUND ? bpf_map_update_elem(&bh_udp_out, key, &flow, BPF_ANY)
                                 : bpf_map_update_elem(&bh_udp_in, key, &flow, BPF_ANY)) {
        bh_count(BH_COUNT_UDP_FLOWS_FULL);
        return 0;
    }
    return 1;
}

/* Whether the replies need no entry: a datagram that the other end sends of its own accord would pass as well. */
static __noinline int bh_replies_pass_anyway(const struct bh_question* question, __u16 reply_port)
{
    struct bh_question reply = {.remote = question->remote, .port = reply_port, .protocol = IPPROTO_UDP};
    struct bh_plane_answer answer = {};
    reply.control = question->control;
    reply.loopback = question->loopback;
    reply.direction = !(question->direction & 1);
    reply.classes.word[0] = 1; /* whoever it is */
    if (reply.control.active_slot == BH_SLOT_NONE)
        return 1;
    bh_judge_plane(&reply, reply.control.active_slot, &answer);
    return answer.verdict == BH_ALLOWED;
}

#endif
