/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sockets that hear in a network namespace in which no sk_lookup program of ours stands yet. */
#ifndef BULKHEAD_BPF_NAMESPACES_H
#define BULKHEAD_BPF_NAMESPACES_H

#include "bpf/events.h"
#include "bpf/socket.h"
#include "bpf/subject.h"

/* How often the agent is told of one namespace: it may be busy, or not there. */
#define BH_NAMESPACE_TELL_NS (1000ull * 1000 * 1000)

static __always_inline int bh_namespace_needs_telling(const struct bh_namespace* known, __u64 cookie, __u64 now)
{
    if (!known || (known->cookie && known->cookie != cookie))
        return 1;
    return !known->followed && now - known->told_ns >= BH_NAMESPACE_TELL_NS;
}

/*
 * An inbound door stands there for certain. The number may be that of a namespace that is dead, which the agent can
 * tell by the cookie since Linux 5.14.
 */
static __always_inline int bh_has_inbound_door_in(__u32 netns, const struct sock* sock)
{
    const struct bh_namespace* known = bpf_map_lookup_elem(&bh_namespaces, &netns);
    return known && known->followed && known->cookie && known->cookie == bh_netns_cookie_of(sock);
}

/* Not inlined: the doors have no stack to spare. Not static: verified once (Linux 5.6). */
__noinline int bh_tell_namespace(__u32 netns, __u64 cookie)
{
    struct bh_namespace told = {.cookie = cookie, .told_ns = bpf_ktime_get_ns()};
    struct bh_namespace* known = bpf_map_lookup_elem(&bh_namespaces, &netns);
    if (!bh_namespace_needs_telling(known, told.cookie, told.told_ns))
        return 0;
    /* The agent may have entered it as followed since: that must stay. */
    if (known && (!known->cookie || known->cookie == cookie))
        known->told_ns = told.told_ns;
    else if (bpf_map_update_elem(&bh_namespaces, &netns, &told, known ? BPF_ANY : BPF_NOEXIST))
        return 0; /* unbounded telling would cost denials their room */
    struct bh_event* event = bpf_ringbuf_reserve(&bh_deny_ring, sizeof(*event), 0);
    if (!event)
        return 0; /* told again in a second, if it still hears; and the agent looks by itself */
    bh_clear_event(event, sizeof(*event), BH_EVENT_NAMESPACE);
    event->netns = netns;
    bh_subject_of_task(&event->subject, (struct task_struct*)bpf_get_current_task());
    bpf_ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
    return 0;
}

/* Called at every bind, listen, first unbound send and connect elsewhere, in the context of the process. */
static __always_inline void bh_hears_in(const struct sock* sock, __u32 netns)
{
    if (netns != guarded_netns)
        bh_tell_namespace(netns, bh_netns_cookie_of(sock));
}

#endif
