/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is told to the agent. A record that finds no room is counted, never waited for. */
#ifndef BULKHEAD_BPF_EVENTS_H
#define BULKHEAD_BPF_EVENTS_H

#include "bpf/verdict.h"

/* `size`: of the record, a constant. */
static __always_inline void bh_clear_event(struct bh_event* event, __u32 size, enum bh_event_type type)
{
    __builtin_memset(event, 0, size);
    event->type = type;
    event->time_ns = bpf_ktime_get_ns();
}

static __always_inline struct bh_event* bh_reserve_record(__u32 size, enum bh_event_type type)
{
    struct bh_event* event = bpf_ringbuf_reserve(&bh_flow_ring, size, 0);
    if (BH_UNLIKELY(!event)) {
        bh_count(BH_COUNT_FLOW_LOST);
        return NULL;
    }
    bh_count(BH_COUNT_FLOW_EVENTS);
    bh_clear_event(event, size, type);
    return event;
}

static __always_inline struct bh_event* bh_reserve_flow_event(enum bh_event_type type)
{
    return bh_reserve_record(sizeof(struct bh_event), type);
}

/* Without process: `classes` and `subject` are not there. */
static __always_inline struct bh_event* bh_reserve_brief_event(enum bh_event_type type)
{
    return bh_reserve_record(BH_BRIEF_EVENT, type);
}

/* Wake-ups cost more than all else at 45,000 connections a second; the reader polls. */
static __always_inline void bh_submit_flow_event(struct bh_event* event)
{
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* The verdict's part of an event. */
static __always_inline void bh_describe_verdict(struct bh_event* event, const struct bh_question* question,
                                                const struct bh_answer* answer)
{
    event->remote = question->remote;
    event->protocol = question->protocol;
    event->direction = question->direction;
    event->verdict = answer->verdict;
    event->reason = answer->reason;
    event->shadow_verdict = answer->shadow_verdict;
    event->shadow_reason = answer->shadow_reason;
    event->generation = question->control.generation;
    event->loopback = question->loopback;
    event->classes = question->classes;
}

#endif
