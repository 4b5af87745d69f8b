/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every denial is counted, by who, whom and what (struct bh_denial_key). The first of its kind is told at once; the
 * agent takes the counts of the others about once a second. A flood neither loses counts nor drives out others: how
 * many kinds may get a place in a second is bounded by peer and by pool, and what is beyond is counted in the peer's
 * "several ports", and beyond that in bh_denials_rest. docs/adr/0009-counted-denials.md says why it is so.
 */
#ifndef BULKHEAD_BPF_DENIALS_H
#define BULKHEAD_BPF_DENIALS_H

#include <linux/in6.h>

#include "bpf/events.h"

#define BH_DENY_WAKEUP_NS (5ull * 1000 * 1000)
#define BH_DENIALS_OF_A_PEER 256  /* single ports (and processes) of one peer that get a place in a second */
#define BH_DENIALS_OF_A_POOL 1024 /* keys that get a place in a second; BH_POOLS pools fill a table in four seconds */
#define BH_SECOND_SHIFT 30        /* a second of the clock is 2^30 ns here: a shift, not a division */

/* What a record of a refused attempt says beside question, answer and subject. */
struct bh_attempt {
    /* Of this host. Of a forwarded packet: the end that the question is not about (not its remote). */
    struct bh_address local;
    union {
        __u64 cookie; /* outbound: of the socket, which says more than its namespace */
        __u32 netns;  /* else: of the host's end */
    };
    __u16 local_port, remote_port;
    __u8 protocol;  /* the packet's own */
    __u8 direction; /* enum bh_direction */
    __u8 icmp_type, icmp_code;
};

/* Never written: what a new entry is made of, since a program's stack has no room for one. */
static const struct bh_denial bh_no_denial = {};

static __always_inline __u64 bh_digest_of(const struct bh_subject* subject)
{
    const __u64 prime = 0x9e3779b97f4a7c15ull;
    __u64 who = subject->cgroup_id * prime;
    who = (who ^ subject->exe_inode ^ who >> 32) * prime;
    who = (who ^ ((__u64)subject->exe_device << 32 | subject->uid) ^ who >> 32) * prime;
    return who ^ who >> 32;
}

/* A forwarded packet is told from its source (local) to its end, whichever of the two the question is about. */
static __always_inline int bh_ends_swapped(const struct bh_question* question, const struct bh_attempt* attempt)
{
    return attempt->direction == BH_FORWARDED && question->direction != BH_OUTBOUND;
}

static __always_inline void bh_read_denial_key(struct bh_denial_key* key, const struct bh_question* question,
                                               const struct bh_answer* answer, const struct bh_attempt* attempt)
{
    int swapped = bh_ends_swapped(question, attempt);
    __builtin_memset(key, 0, sizeof(*key));
    key->remote = swapped ? attempt->local : question->remote;
    key->local = swapped ? question->remote : attempt->local;
    key->generation = question->control.generation;
    key->protocol = attempt->protocol;
    key->direction = attempt->direction;
    key->verdict = answer->verdict;
    key->reason = answer->reason;
    key->shadow_verdict = answer->shadow_verdict;
    key->shadow_reason = answer->shadow_reason;
}

/* Not static, as those below: what comes after it is verified once, not once for each way through it. */
__noinline int bh_one_kind(struct bh_denial_key* key, const struct bh_question* question,
                           const struct bh_attempt* attempt, const struct bh_subject* subject)
{
    if (!key || !question || !attempt)
        return 0;
    key->several = BH_SEVERAL_NONE;
    key->local = bh_ends_swapped(question, attempt) ? question->remote : attempt->local;
    key->port = question->port;
    key->netns = attempt->direction == BH_OUTBOUND ? 0 : attempt->netns;
    key->pid = subject ? subject->pid : 0;
    key->who = subject ? bh_digest_of(subject) : 0;
    return 0;
}

static __always_inline void bh_several_ports(struct bh_denial_key* key)
{
    key->several = BH_SEVERAL_PORTS;
    key->port = 0;
    key->netns = 0;
    key->pid = 0;
    key->who = 0;
    if (key->direction != BH_FORWARDED)
        __builtin_memset(&key->local, 0, sizeof(key->local));
}

/* All but when, and of which peer. Not static, as bh_tell_denied(). */
__noinline int bh_describe_attempt(struct bh_event* event, const struct bh_question* question,
                                   const struct bh_answer* answer, const struct bh_attempt* attempt,
                                   const struct bh_subject* subject)
{
    if (!event || !question || !answer || !attempt)
        return 0;
    bh_describe_verdict(event, question, answer);
    event->local = bh_ends_swapped(question, attempt) ? question->remote : attempt->local;
    event->type = BH_EVENT_DENY;
    if (attempt->direction == BH_OUTBOUND)
        event->cookie = attempt->cookie;
    else
        event->netns = attempt->netns;
    event->local_port = attempt->local_port;
    event->remote_port = attempt->remote_port;
    event->protocol = attempt->protocol;
    event->direction = attempt->direction;
    event->icmp_type = attempt->icmp_type;
    event->icmp_code = attempt->icmp_code;
    if (subject)
        event->subject = *subject;
    return 0;
}

static __always_inline void bh_describe_denial(struct bh_event* event, const struct bh_denial_key* key,
                                               const struct bh_question* question, const struct bh_answer* answer,
                                               const struct bh_attempt* attempt, const struct bh_subject* subject,
                                               __u64 now)
{
    bh_describe_attempt(event, question, answer, attempt, subject);
    event->remote = key->remote;
    event->several = key->several;
    event->time_ns = now;
}

/* A flood wakes the reader of the ring once in a while, the first denial after a quiet moment at once. */
static __always_inline __u64 bh_deny_wakeup_flags(__u64 now)
{
    __u32 zero = 0;
    __u64* last = bpf_map_lookup_elem(&bh_deny_wakeup, &zero);
    if (last && now - *last < BH_DENY_WAKEUP_NS)
        return BPF_RB_NO_WAKEUP;
    if (last)
        *last = now;
    return BPF_RB_FORCE_WAKEUP;
}

/* 1: the ring had room. */
static __always_inline int bh_tell_at_once(const struct bh_event* first, __u64 now)
{
    struct bh_event* event = bpf_ringbuf_reserve(&bh_deny_ring, sizeof(*event), 0);
    if (!event)
        return 0;
    bh_count(BH_COUNT_DENY_EVENTS);
    *event = *first;
    bpf_ringbuf_submit(event, bh_deny_wakeup_flags(now));
    return 1;
}

/* Budgets may be overdrawn by as many as there are CPUs; they bound, they need not be exact. */
static __always_inline int bh_within(__u32* second, __u32* entered, __u32 limit, __u64 now)
{
    __u32 this_second = now >> BH_SECOND_SHIFT;
    if (*second != this_second) {
        *second = this_second;
        *entered = 0;
    }
    if (*entered >= limit)
        return 0;
    __sync_fetch_and_add(entered, 1);
    return 1;
}

__noinline int bh_pool_has_room(const struct bh_answer* answer, const struct bh_attempt* attempt, __u64 now)
{
    if (!answer || !attempt)
        return 0;
    __u32 pool = BH_POOL_OTHER_PEERS;
    if (attempt->direction == BH_OUTBOUND)
        pool = BH_POOL_OUTBOUND;
    else if (attempt->direction == BH_FORWARDED)
        pool = BH_POOL_FORWARDED;
    else if (answer->peer_class != BH_PEER_ANY || answer->shadow_peer_class != BH_PEER_ANY)
        pool = BH_POOL_KNOWN_PEERS;
    struct bh_denial_pool_use* use = bpf_map_lookup_elem(&bh_denial_pools, &pool);
    return use && bh_within(&use->second, &use->entered, BH_DENIALS_OF_A_POOL, now);
}

static __always_inline void bh_count_attempt(struct bh_denial* denial, const struct bh_attempt* attempt, __u64 now)
{
    if (!denial->since_ns)
        denial->since_ns = now;
    denial->last_ns = now;
    __sync_fetch_and_add(&denial->count, 1);
    if (attempt->direction == BH_INBOUND && denial->first.remote_port != attempt->remote_port)
        __sync_fetch_and_add(&denial->elsewhere, 1);
}

static __always_inline void bh_note_port(struct bh_denial* denial, __u16 port)
{
    if (!denial->lowest_port || port < denial->lowest_port)
        denial->lowest_port = port;
    if (port > denial->highest_port)
        denial->highest_port = port;
}

__noinline int bh_count_in_rest(__u32 turn, const struct bh_answer* answer, const struct bh_attempt* attempt, __u64 now)
{
    if (!answer || !attempt)
        return 0;
    __u32 protocol = 4;
    switch (attempt->protocol) {
    case IPPROTO_TCP: protocol = 0; break;
    case IPPROTO_UDP: protocol = 1; break;
    case IPPROTO_ICMP: protocol = 2; break;
    case IPPROTO_ICMPV6: protocol = 3; break;
    }
    __u32 direction = attempt->direction > BH_FORWARDED ? BH_FORWARDED : attempt->direction;
    __u32 index = (turn & 1) * BH_DENIAL_REST + (direction * BH_DENIAL_REST_PROTOCOLS + protocol) * 2 +
                  (answer->verdict != BH_DENIED);
    struct bh_denial_rest* rest = bpf_map_lookup_elem(&bh_denials_rest, &index);
    if (!rest)
        return 0;
    if (!rest->since_ns)
        rest->since_ns = now;
    rest->last_ns = now;
    /* Not a plain addition: a packet may interrupt a connect(2) on this CPU. */
    __sync_fetch_and_add(&rest->count, 1);
    return 0;
}

static __always_inline void bh_count_denied(const struct bh_answer* answer, __u8 direction)
{
    int denied = answer->verdict == BH_DENIED;
    if (direction == BH_INBOUND)
        bh_count(denied ? BH_COUNT_DENIED_IN : BH_COUNT_WOULD_DENY_IN);
    else if (direction == BH_OUTBOUND)
        bh_count(denied ? BH_COUNT_DENIED_OUT : BH_COUNT_WOULD_DENY_OUT);
    else
        bh_count(denied ? BH_COUNT_DENIED_FORWARDED : BH_COUNT_WOULD_DENY_FORWARDED);
}

/* A place for this key; *fresh: nobody else made it meanwhile, so the caller describes it. NULL: the table is full. */
static __always_inline struct bh_denial* bh_enter_denial(void* table, const struct bh_denial_key* key, int* fresh)
{
    *fresh = bpf_map_update_elem(table, key, &bh_no_denial, BPF_NOEXIST) == 0;
    return bpf_map_lookup_elem(table, key);
}

/*
 * What at least one plane refuses: counted, and told at once if it is the first of its kind. All doors and the guard
 * call this, once for each refused attempt. `subject`: NULL when nobody is known.
 */
__noinline int bh_tell_denied(const struct bh_question* question, const struct bh_answer* answer,
                              const struct bh_attempt* attempt, const struct bh_subject* subject)
{
    struct bh_denial_key key;
    __u32 zero = 0;
    int fresh = 0;

    if (!question || !answer || !attempt)
        return 0;
    bh_count_denied(answer, attempt->direction);
    __u64 now = bpf_ktime_get_ns();
    const struct bh_denial_turn* turn = bpf_map_lookup_elem(&bh_denial_turn, &zero);
    __u32 this_turn = turn ? turn->turn & 1 : 0;
    __u32 last_turn = this_turn ^ 1;
    void* table = bpf_map_lookup_elem(&bh_denials, &this_turn);
    void* before = bpf_map_lookup_elem(&bh_denials, &last_turn);
    if (!table || !before)
        goto rest;

    bh_read_denial_key(&key, question, answer, attempt);
    bh_one_kind(&key, question, attempt, subject);
    struct bh_denial* denial = bpf_map_lookup_elem(table, &key);
    if (denial) {
        bh_count_attempt(denial, attempt, now);
        return 0;
    }
    /* Told in the turn before: it has its place, and is not told again. */
    int known = bpf_map_lookup_elem(before, &key) != NULL;

    bh_several_ports(&key);
    struct bh_denial* several = bpf_map_lookup_elem(table, &key);
    if (!several) {
        if (!bpf_map_lookup_elem(before, &key) && !bh_pool_has_room(answer, attempt, now))
            goto rest;
        several = bh_enter_denial(table, &key, &fresh);
        if (!several)
            goto rest;
        if (fresh)
            bh_describe_denial(&several->first, &key, question, answer, attempt, subject, now);
    }
    if (!known && (!bh_within(&several->second, &several->entered, BH_DENIALS_OF_A_PEER, now) ||
                   !bh_pool_has_room(answer, attempt, now)))
        goto several_ports;

    bh_one_kind(&key, question, attempt, subject);
    denial = bh_enter_denial(table, &key, &fresh);
    if (!denial)
        goto several_ports;
    if (fresh)
        bh_describe_denial(&denial->first, &key, question, answer, attempt, subject, now);
    if (known || !fresh || !bh_tell_at_once(&denial->first, now))
        bh_count_attempt(denial, attempt, now);
    return 0;

several_ports:
    bh_note_port(several, question->port);
    bh_count_attempt(several, attempt, now);
    return 0;
rest:
    bh_count_in_rest(this_turn, answer, attempt, now);
    return 0;
}

#endif
