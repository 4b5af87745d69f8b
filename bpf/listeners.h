/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The listener table: kept by bind, listen and release; asked by what arrives. */
#ifndef BULKHEAD_BPF_LISTENERS_H
#define BULKHEAD_BPF_LISTENERS_H

#include "bpf/events.h"
#include "bpf/socket.h"
#include "bpf/subject.h"

/* A listener as the kernel would choose it for a packet: exact address, then the wildcard of the packet's family, then
 * ::. */
static __always_inline struct bh_listener* bh_find_listener(const struct bh_address* local, __u16 port, __u8 protocol)
{
    struct bh_listener_key key = {.address = *local, .port = port, .protocol = protocol};
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

static __always_inline void bh_tell_listener(enum bh_event_type type, const struct bh_listener_key* key, __u64 cookie,
                                             const struct bh_subject* owner)
{
    struct bh_event* event = bh_reserve_flow_event(type);
    if (!event)
        return;
    event->cookie = cookie;
    event->local = key->address;
    event->local_port = key->port;
    event->protocol = key->protocol;
    event->direction = BH_INBOUND;
    if (owner)
        event->subject = *owner;
    bh_submit_flow_event(event);
}

/*
 * Takes the key for this socket. A key that another socket holds (SO_REUSEPORT) counts one sharer more; the last one to
 * come is the owner that verdicts see, until userspace resynchronises.
 */
static __noinline int bh_enter_listener(const struct bh_listener_key* key, __u64 cookie, __u8 state, __u8 v6only)
{
    struct task_struct* task = (struct task_struct*)bpf_get_current_task();
    struct bh_listener entry = {.cookie = cookie, .state = state, .v6only = v6only};
    entry.since_ns = bpf_ktime_get_ns();

    const struct bh_listener* held = bpf_map_lookup_elem(&bh_listeners, key);
    if (held)
        entry.sharers = held->cookie == cookie ? held->sharers : held->sharers + 1;
    bh_subject_of_task(&entry.owner, task);
    bh_cgroups_of_task(&entry.cgroups, task);
    if (bpf_map_update_elem(&bh_listeners, key, &entry, BPF_ANY)) {
        bh_count(BH_COUNT_LISTENERS_FULL);
        return 0;
    }
    if (state == BH_LISTENER_LISTENING)
        bh_tell_listener(BH_EVENT_LISTEN, key, cookie, &entry.owner);
    return 0;
}

/*
 * True when the key was this socket's, or is shared and so might have been. After the socket that the entry names has
 * left a shared key, the cookie is 0: any of those that stay.
 */
static __always_inline int bh_leave_listener(const struct bh_listener_key* key, __u64 cookie)
{
    struct bh_listener* held = bpf_map_lookup_elem(&bh_listeners, key);
    if (!held || (held->cookie != cookie && held->cookie != 0 && held->sharers == 0))
        return 0;
    int told = held->state == BH_LISTENER_LISTENING;
    if (held->sharers > 0) {
        __sync_fetch_and_add(&held->sharers, (__u32)-1);
        if (held->cookie == cookie)
            held->cookie = 0;
    } else {
        bpf_map_delete_elem(&bh_listeners, key);
    }
    if (told)
        bh_tell_listener(BH_EVENT_UNLISTEN, key, cookie, NULL);
    return 1;
}

#endif
