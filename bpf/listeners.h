/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The listener table: kept by bind, listen and release; asked by what arrives. */
#ifndef BULKHEAD_BPF_LISTENERS_H
#define BULKHEAD_BPF_LISTENERS_H

#include "bpf/events.h"
#include "bpf/namespaces.h"
#include "bpf/socket.h"
#include "bpf/subject.h"

/*
 * Who hears, of two whose addresses fit. A TCP socket that is only bound hears nothing, and while somebody listens it
 * may listen beside him only if both are one user's (SO_REUSEPORT); then it might, at any moment.
 */
static __always_inline struct bh_listener* bh_who_hears(struct bh_listener* closer, struct bh_listener* wider,
                                                        __u8 protocol)
{
    if (!closer || !wider)
        return closer ? closer : wider;
    if (protocol != IPPROTO_TCP || closer->state == BH_LISTENER_LISTENING || wider->state != BH_LISTENER_LISTENING)
        return closer;
    return closer->owner.uid == wider->owner.uid ? closer : wider;
}

/* Nobody wider needs to be looked for. */
static __always_inline int bh_hears_surely(const struct bh_listener* listener, __u8 protocol)
{
    return listener && (protocol != IPPROTO_TCP || listener->state == BH_LISTENER_LISTENING);
}

/* A listener as the kernel would choose it for a packet: exact address, then the wildcard of the packet's family, then
 * ::. */
static __always_inline struct bh_listener* bh_find_listener(__u32 netns, const struct bh_address* local, __u16 port,
                                                            __u8 protocol)
{
    struct bh_listener_key key = {.address = *local, .port = port, .protocol = protocol, .netns = netns};
    struct bh_listener* listener = bpf_map_lookup_elem(&bh_listeners, &key);
    if (BH_LIKELY(bh_hears_surely(listener, protocol)))
        return listener;
    if (bh_is_v4(local)) {
        bh_set_v4(&key.address, 0);
        listener = bh_who_hears(listener, bpf_map_lookup_elem(&bh_listeners, &key), protocol);
        if (BH_LIKELY(bh_hears_surely(listener, protocol)))
            return listener;
    }
    bh_set_v6(&key.address, 0, 0, 0, 0);
    struct bh_listener* of_both = bpf_map_lookup_elem(&bh_listeners, &key);
    if (of_both && of_both->v6only && bh_is_v4(local))
        return listener;
    return bh_who_hears(listener, of_both, protocol);
}

static __always_inline void bh_judge_anybody(struct bh_question* question, struct bh_answer* answer)
{
    bh_only_any_process(&question->classes);
    bh_judge(question, answer);
}

/* By whoever listens. At a key with owners of several kinds any of them may be the one that hears. */
static __always_inline void bh_judge_listener(struct bh_question* question, const struct bh_listener* listener,
                                              struct bh_answer* answer)
{
    if (listener->mixed) {
        struct bh_class_vector possible;
        bh_only_any_process(&question->classes);
        bh_all_classes(&possible);
        bh_judge_unsure(question, &possible, answer);
        return;
    }
    bh_classes_of_stored(bh_leading_slot(question->control), &listener->owner, &listener->cgroups, &question->classes);
    bh_judge(question, answer);
}

/* Not inlined, as the next: frames of the doors have to share 512 bytes. Not static: verified once. */
__noinline int bh_tell_listener(enum bh_event_type type, const struct bh_listener_key* key, __u64 cookie,
                                const struct bh_subject* owner)
{
    if (!key)
        return 0;
    struct bh_event* event = bh_reserve_flow_event(type);
    if (!event)
        return 0;
    event->cookie = cookie;
    event->local = key->address;
    event->local_port = key->port;
    event->protocol = key->protocol;
    event->direction = BH_INBOUND;
    event->netns = key->netns;
    if (owner)
        event->subject = *owner;
    bh_submit_flow_event(event);
    return 0;
}

__noinline int bh_count_no_room(void)
{
    bh_count(BH_COUNT_LISTENERS_FULL);
    return 0;
}

static __always_inline int bh_same_kind(const struct bh_subject* a, const struct bh_subject* b)
{
    return a->cgroup_id == b->cgroup_id && a->exe_inode == b->exe_inode && a->exe_device == b->exe_device &&
           a->uid == b->uid;
}

/*
 * A key that several sockets hold (SO_REUSEPORT) has one row, of the socket that listened last, or that bound last
 * while none listens: a socket that is merely bound must not speak for one that listens. What is narrower in one of
 * them must not hide the other, so v6only holds only while all are.
 */
static __always_inline void bh_share_listener(struct bh_listener* entry, const struct bh_listener* held)
{
    if (held->cookie != entry->cookie)
        entry->sharers = held->sharers + 1;
    else
        entry->sharers = held->sharers;
    if (entry->sharers > 0 && !held->v6only)
        entry->v6only = 0;
    entry->mixed = held->mixed;
    if (held->cookie != entry->cookie && held->state == BH_LISTENER_LISTENING &&
        entry->state == BH_LISTENER_LISTENING && !bh_same_kind(&held->owner, &entry->owner))
        entry->mixed = 1;
}

/*
 * Of two that hear IPv4 on every address, by 0.0.0.0 and by ::, the kernel takes the one that is bound to the interface
 * (compute_score() in net/ipv4/udp.c, inet_hashtables.c): either may be the one that hears. The key is
 * on the stack and comes back as it was.
 */
static __always_inline void bh_meet_other_family(struct bh_listener_key* key, struct bh_listener* entry)
{
    if (entry->state != BH_LISTENER_LISTENING || entry->v6only || !bh_is_unspecified(&key->address))
        return;
    int is_v4 = bh_is_v4(&key->address);
    bh_words(&key->address)[2] ^= BH_V4_MARK; /* all that tells :: and ::ffff:0.0.0.0 apart */
    struct bh_listener* met = bpf_map_lookup_elem(&bh_listeners, key);
    bh_words(&key->address)[2] ^= BH_V4_MARK;
    if (!met || met->state != BH_LISTENER_LISTENING || met->v6only || bh_same_kind(&met->owner, &entry->owner))
        return;
    if (is_v4)
        entry->mixed = 1;
    else
        met->mixed = 1;
}

/* Not static, as what calls them: verified once. */
__noinline int bh_count_held(__u32 holder, int change)
{
    __s32* held = holder ? bpf_map_lookup_elem(&bh_listener_holders, &holder) : NULL;
    if (held)
        __sync_fetch_and_add(held, change);
    return 0;
}

__noinline int bh_holds_enough(__u32 holder)
{
    const __s32* held = holder ? bpf_map_lookup_elem(&bh_listener_holders, &holder) : NULL;
    return held && *(const volatile __s32*)held >= BH_LISTENERS_OF_ONE;
}

/*
 * Takes the key for this socket. Negative: the table is full, or its user has his share of it, and the socket is not in
 * it. Not static: verified once.
 * Its own copy is the key, since nothing but memory of the stack may be one before Linux 6.2.
 */
__noinline int bh_enter_listener(const struct bh_listener_key* wanted, __u64 cookie, __u8 state, __u8 v6only)
{
    struct bh_listener entry = {.cookie = cookie, .state = state, .v6only = v6only};
    if (!wanted)
        return -1;
    struct bh_listener_key copy = *wanted, *key = &copy;
    entry.since_ns = bpf_ktime_get_ns();
    BH_KEEP_COPY(&entry); /* so that no argument is kept beside it on the stack */

    bh_read_current(&entry.owner);
    entry.holder = (__u8)bh_holder_of(entry.owner.uid);
    struct bh_listener* held = bpf_map_lookup_elem(&bh_listeners, key);
    __u32 holder_before = held ? held->holder : 0;
    if (!held && bh_holds_enough(entry.holder)) {
        bh_count_no_room();
        return -1;
    }
    if (held)
        bh_share_listener(&entry, held);
    bh_meet_other_family(key, &entry);
    if (held && entry.sharers > 0 && held->state == BH_LISTENER_LISTENING && entry.state == BH_LISTENER_BOUND) {
        held->v6only = entry.v6only;
        held->sharers = entry.sharers;
        return 0;
    }
    bh_read_cgroups_of_current(&entry.cgroups);
    if (bpf_map_update_elem(&bh_listeners, key, &entry, BPF_ANY)) {
        bh_count_no_room();
        return -1;
    }
    if (holder_before != entry.holder) {
        bh_count_held(holder_before, -1);
        bh_count_held(entry.holder, 1);
    }
    if (entry.state == BH_LISTENER_LISTENING)
        bh_tell_listener(BH_EVENT_LISTEN, key, entry.cookie, &entry.owner);
    return 0;
}

/*
 * True when the key was this socket's, or is shared and so might have been. A shared row stays: whether the others are
 * still there cannot be counted here (a socket may leave more than once: connect(2), then close(2)), and a row too many
 * is judged while a row too few would not be. UNLISTEN makes the agent walk the sockets and decide.
 */
static __always_inline int bh_leave_listener(const struct bh_listener_key* key, __u64 cookie)
{
    struct bh_listener* held = bpf_map_lookup_elem(&bh_listeners, key);
    if (!held || (held->cookie != cookie && held->sharers == 0))
        return 0;
    int told = held->state == BH_LISTENER_LISTENING || held->sharers > 0;
    if (held->sharers == 0) {
        bh_count_held(held->holder, -1);
        bpf_map_delete_elem(&bh_listeners, key);
    }
    if (told)
        bh_tell_listener(BH_EVENT_UNLISTEN, key, cookie, NULL);
    return 1;
}

#endif
