/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What let the last SYN pass on this CPU, for the record of the connection that it most likely begins here a moment
 * later: so a connection is judged once. The record says what was decided then; when the answer is not at hand, it is
 * asked for again.
 */
#ifndef BULKHEAD_BPF_ACCEPTANCE_H
#define BULKHEAD_BPF_ACCEPTANCE_H

#include "bpf/events.h"

struct bh_acceptance {
    __u32 writes; /* a reader that was interrupted by a writer finds it changed */
    __u32 netns;
    __u16 remote_port;
    struct bh_address local;
    struct bh_question question;
    struct bh_answer answer;
    struct bh_subject owner;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct bh_acceptance));
} bh_last_acceptance SEC(".maps");

static __always_inline struct bh_acceptance* bh_acceptance_of_this_cpu(void)
{
    __u32 zero = 0;
    return bpf_map_lookup_elem(&bh_last_acceptance, &zero);
}

static __always_inline void bh_remember_acceptance(const struct bh_question* question, const struct bh_answer* answer,
                                                   const struct bh_address* local, __u16 remote_port, __u32 netns,
                                                   const struct bh_subject* owner)
{
    struct bh_acceptance* last = bh_acceptance_of_this_cpu();
    if (!last)
        return;
    *(volatile __u32*)&last->writes += 1;
    last->netns = netns;
    last->remote_port = remote_port;
    last->local = *local;
    last->question = *question;
    last->answer = *answer;
    if (owner)
        last->owner = *owner;
    else
        __builtin_memset(&last->owner, 0, sizeof(last->owner));
}

/* The event is the one of the connection, its ends are set. False: what let it pass is not known. */
static __always_inline int bh_recall_acceptance(struct bh_event* event, __u32 netns, struct bh_control control)
{
    const struct bh_acceptance* last = bh_acceptance_of_this_cpu();
    if (!last)
        return 0;
    __u32 writes = *(const volatile __u32*)&last->writes;
    if (last->remote_port != event->remote_port || last->question.port != event->local_port || last->netns != netns ||
        last->question.control.generation != control.generation ||
        !bh_is_same(&last->question.remote, &event->remote) || !bh_is_same(&last->local, &event->local))
        return 0;
    bh_describe_verdict(event, &last->question, &last->answer);
    event->subject = last->owner;
    if (*(const volatile __u32*)&last->writes == writes)
        return 1;
    __builtin_memset(&event->subject, 0, sizeof(event->subject));
    return 0;
}

#endif
