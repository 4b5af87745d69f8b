/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The listener table: kept by bind, listen and release; asked by what arrives. */
#ifndef BULKHEAD_BPF_LISTENERS_H
#define BULKHEAD_BPF_LISTENERS_H

#include "bpf/events.h"
#include "bpf/namespaces.h"
#include "bpf/socket.h"
#include "bpf/subject.h"

/* A listener as the kernel would choose it for a packet: exact address, then the wildcard of the packet's family, then
 * ::. */
static __always_inline struct bh_listener* bh_find_listener(__u32 netns, const struct bh_address* local, __u16 port,
                                                            __u8 protocol)
{
    struct bh_listener_key key = {.address = *local, .port = port, .protocol = protocol, .netns = netns};
    struct bh_listener* listener = bpf_map_lookup_elem(&bh_listeners, &key);
    if (listener)
        return listener;
    if (bh_is_v4(local)) {
        bh_set_v4(&key.address, 0);
        listener = bpf_map_lookup_elem(&bh_listeners, &key);
        if (listener)
            return listener;
    }
    bh_set_v6(&key.address, 0, 0, 0, 0);
    listener = bpf_map_lookup_elem(&bh_listeners, &key);
    if (listener && listener->v6only && bh_is_v4(local))
        return NULL;
    return listener;
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
 * Takes the key for this socket. Negative: the table is full, and the socket is not in it. Not static: verified once.
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
    struct bh_listener* held = bpf_map_lookup_elem(&bh_listeners, key);
    if (held)
        bh_share_listener(&entry, held);
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
    if (held->sharers == 0)
        bpf_map_delete_elem(&bh_listeners, key);
    if (told)
        bh_tell_listener(BH_EVENT_UNLISTEN, key, cookie, NULL);
    return 1;
}

#endif
