/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What arrives at sockets that listen or hear from anybody: whether it may, and what is remembered and told of it. */
#ifndef BULKHEAD_BPF_ARRIVALS_H
#define BULKHEAD_BPF_ARRIVALS_H

#include "bpf/acceptance.h"
#include "bpf/context.h"
#include "bpf/denials.h"
#include "bpf/listeners.h"
#include "bpf/loopback.h"
#include "bpf/udp_flows.h"

struct bh_arrival {
    struct bh_question question; /* .port is the local one */
    struct bh_answer answer;
    struct bh_address local;
    __u32 netns;
    __u16 remote_port;
    __u8 by_process;
    __u8 by_wire; /* it came from outside its namespace, whatever its addresses say; 0: not known */
};

/* What is known of the socket that it reaches. All zero, as at the inbound door: that is being looked for. */
struct bh_reached {
    const struct bh_address* bound; /* to which address */
    int is_ours;                    /* in scope */
    int stays;                      /* the packet came by lo, whatever its addresses say */
    int again;                      /* of a connection whose SYN was asked about */
    __u8 loopback;                  /* enum bh_loopback of its source */
};

/* Which way it came is surer than addresses, where that is known. */
static __always_inline void bh_place_arrival(struct bh_arrival* arrival, struct bh_reached reached)
{
    struct bh_question* question = &arrival->question;
    question->loopback = reached.bound ? reached.loopback : bh_loopback_of(&question->remote, arrival->netns);
}

static __always_inline struct bh_listener* bh_listener_of(const struct bh_arrival* arrival, struct bh_reached reached,
                                                          __u8 protocol)
{
    return bh_find_listener(arrival->netns, reached.bound ? reached.bound : &arrival->local, arrival->question.port,
                            protocol);
}

static __always_inline void bh_judge_arrival(struct bh_arrival* arrival, const struct bh_listener* listener,
                                             struct bh_reached reached)
{
    struct bh_question* question = &arrival->question;
    bh_place_arrival(arrival, reached);
    arrival->by_process = bh_planes_look_at_processes(question->control);
    if (BH_UNLIKELY(arrival->by_process && listener))
        bh_judge_listener(question, listener, &arrival->answer);
    else
        bh_judge_anybody(question, &arrival->answer);
    if (!reached.again || arrival->answer.verdict == BH_DENIED)
        bh_count_verdict(&arrival->answer, BH_INBOUND);
}

static __always_inline void bh_describe_arrival(struct bh_event* event, const struct bh_arrival* arrival,
                                                const struct bh_listener* listener)
{
    bh_describe_verdict(event, &arrival->question, &arrival->answer);
    event->local = arrival->local;
    event->netns = arrival->netns;
    event->local_port = arrival->question.port;
    event->remote_port = arrival->remote_port;
    if (listener)
        event->subject = listener->owner;
}

/* Not static, as bh_read_arrival(). */
__noinline int bh_tell_arrival_denied(const struct bh_arrival* arrival, const struct bh_listener* listener)
{
    if (!arrival)
        return 0;
    /* Whoever began it on this host was asked and told of; what finds nobody is the tail of what has ended. */
    if (arrival->question.loopback && !listener)
        return 0;
    struct bh_attempt attempt = {.local = arrival->local,
                                 .netns = arrival->netns,
                                 .local_port = arrival->question.port,
                                 .remote_port = arrival->remote_port,
                                 .protocol = arrival->question.protocol,
                                 .direction = BH_INBOUND};
    bh_tell_denied(&arrival->question, &arrival->answer, &attempt, listener ? &listener->owner : NULL);
    return 0;
}

static __always_inline void bh_touch_by_packet(struct bh_udp_flow* flow, __u64 now)
{
    if (!bh_udp_flow_was_touched(flow) && bh_a_packet_asks())
        bh_touch_udp_flow(flow, now);
}

/* By a socket that was not there before; who heard may answer. Not static, as bh_read_arrival(). */
__noinline int bh_heard_by(struct bh_udp_flow* flow, const struct bh_listener* listener)
{
    if (!flow || !listener)
        return 0;
    flow->cookie = listener->cookie;
    if (!bh_same_kind(&flow->subject, &listener->owner))
        flow->subject = listener->owner;
    return 0;
}

/* False: there is no room to remember what the reply needs. */
static __always_inline int bh_note_arrival(const struct bh_udp_flow_key* key, struct bh_udp_flow* flow,
                                           const struct bh_arrival* arrival, const struct bh_listener* listener,
                                           __u64 now)
{
    int begins = !flow;
    if (begins) {
        if (!bh_a_packet_asks())
            return 1;
        if (!bh_begin_udp_flow(key, now, listener->cookie, &arrival->question, &listener->owner) &&
            !bh_replies_pass_anyway(&arrival->question, arrival->remote_port))
            return 0;
        flow = bh_find_udp_flow(key, BH_INBOUND);
    }
    if (flow) {
        flow->within = arrival->question.loopback != BH_LOOPBACK_NONE;
        bh_settle_udp_flow(flow, arrival->question.control.generation,
                           !arrival->by_process && !arrival->answer.on_time &&
                               arrival->question.loopback != BH_LOOPBACK_OWN && !bh_is_ours(&arrival->question.remote));
        if (flow->cookie != listener->cookie)
            bh_heard_by(flow, listener);
        bh_touch_by_packet(flow, now);
    }
    if (!begins || arrival->question.loopback == BH_LOOPBACK_ADDRESS) /* of which flows are not told */
        return 1;
    struct bh_event* event = bh_reserve_flow_event(BH_EVENT_UDP_OPEN);
    if (!event)
        return 1;
    bh_describe_arrival(event, arrival, listener);
    bh_submit_flow_event(event);
    return 1;
}

/*
 * The port that something was asked from may be another's by now. Where planes look at processes, what comes back is a
 * reply if it reaches the socket that asked, another of the same unit, program and user, or whom the policy would let
 * ask; else it is an arrival like any other.
 */
__noinline int bh_may_be_answered(struct bh_arrival* arrival, const struct bh_udp_flow* asked,
                                  const struct bh_listener* listener)
{
    if (!arrival || !asked || !listener)
        return 0;
    struct bh_question* question = &arrival->question;
    struct bh_plane_answer answer = {};
    __u16 local_port = question->port;

    if (listener->cookie == asked->cookie || bh_same_kind(&listener->owner, &asked->subject))
        return 1;
    if (listener->mixed)
        bh_only_any_process(&question->classes);
    else
        bh_classes_of_stored(bh_leading_slot(question->control), &listener->owner, &listener->cgroups,
                             &question->classes);
    struct bh_address remote = question->remote; /* before Linux 6.2, a key has to be on the stack */
    BH_KEEP_COPY(&remote);
    question->loopback = arrival->by_wire ? BH_LOOPBACK_NONE : bh_loopback_of(&remote, arrival->netns);
    question->direction = BH_OUTBOUND;
    question->port = arrival->remote_port;
    bh_judge_plane(question, bh_leading_slot(question->control), &answer);
    question->direction = BH_INBOUND;
    question->port = local_port;
    return answer.verdict == BH_ALLOWED;
}

/* What an arrival that passes leaves behind. False: there is no room to remember what its reply needs. */
static __always_inline int bh_let_arrive(struct bh_arrival* arrival, const struct bh_listener* listener,
                                         const struct bh_udp_flow_key* key, struct bh_udp_flow* flow, __u64 now,
                                         struct bh_reached reached)
{
    if (arrival->question.protocol == IPPROTO_TCP) {
        /* A question begins no connection, and what was noted of a SYN that interrupts it would be overwritten. */
        if (bh_a_packet_asks())
            bh_remember_acceptance(&arrival->question, &arrival->answer, &arrival->local, arrival->remote_port,
                                   arrival->netns, listener ? &listener->owner : NULL);
        return 1;
    }
    if (!listener) /* to a closed port: begins nothing */
        return 1;
    if (reached.stays && !arrival->question.loopback) /* in a peer's name: what comes from that peer is no part of it */
        return 1;
    return bh_note_arrival(key, flow, arrival, listener, now);
}

/* `flow`: of a datagram, the conversation that it goes on with, if there is one. */
static __always_inline int bh_decide_arrival(struct bh_arrival* arrival, const struct bh_listener* listener,
                                             const struct bh_udp_flow_key* key, struct bh_udp_flow* flow, __u64 now,
                                             struct bh_reached reached)
{
    if (!listener && !scope_is_root && !reached.is_ours)
        return SK_PASS;
    bh_judge_arrival(arrival, listener, reached);
    /* The shadow plane's refusal is told once a conversation and policy, not once a datagram. */
    int told = reached.again || (flow && bh_udp_flow_is_known_to(flow, arrival->question.control));
    if (BH_UNLIKELY(arrival->answer.verdict != BH_DENIED &&
                    !bh_let_arrive(arrival, listener, key, flow, now, reached))) {
        arrival->answer.verdict = BH_DENIED;
        arrival->answer.reason = BH_REASON_FULL;
        bh_count_verdict(&arrival->answer, BH_INBOUND);
    }
    if (BH_UNLIKELY(arrival->answer.verdict == BH_DENIED || (arrival->answer.shadow_verdict == BH_DENIED && !told)) &&
        bh_a_packet_asks())
        bh_tell_arrival_denied(arrival, listener);
    return arrival->answer.verdict == BH_DENIED ? SK_DROP : SK_PASS;
}

/* Whether a datagram belongs to a conversation that needs no verdict. `flow`: the one that it goes on with, else. */
static __always_inline int bh_is_expected(struct bh_arrival* arrival, const struct bh_udp_flow_key* key,
                                          const struct bh_listener** listener, struct bh_udp_flow** flow, __u64 now,
                                          struct bh_reached reached)
{
    struct bh_control control = arrival->question.control;
    *flow = bh_live_udp_flow(key, BH_INBOUND, now);
    if (*flow && bh_udp_flow_settled(*flow, control)) {
        bh_touch_by_packet(*flow, now);
        return 1;
    }
    struct bh_udp_flow* asked = bh_live_udp_flow(key, BH_OUTBOUND, now);
    int anybodys = asked && (bh_udp_flow_settled(asked, control) || !bh_planes_look_at_processes(control));
    if (!anybodys)
        *listener = bh_listener_of(arrival, reached, IPPROTO_UDP);
    if (asked && (anybodys || !*listener || bh_may_be_answered(arrival, asked, *listener))) {
        if ((!asked->answered || !bh_udp_flow_was_touched(asked)) && bh_a_packet_asks())
            bh_reply_seen(asked, now);
        return 1;
    }
    return 0;
}

/* SK_PASS or SK_DROP, of what has been read. */
static __always_inline int bh_arrival_verdict(struct bh_arrival* arrival, struct bh_reached reached)
{
    arrival->question.control = bh_read_control();
    if (bh_is_loopback(&arrival->question.remote) && (!reached.bound || reached.stays) &&
        !bh_planes_are_about_loopback(arrival->question.control))
        return SK_PASS;
    struct bh_udp_flow_key key = {.remote = arrival->question.remote,
                                  .remote_port = arrival->remote_port,
                                  .local_port = arrival->question.port,
                                  .netns = arrival->netns};
    const struct bh_listener* listener = NULL;
    struct bh_udp_flow* flow = NULL;
    __u64 now = 0;
    if (arrival->question.protocol == IPPROTO_TCP) {
        listener = bh_listener_of(arrival, reached, IPPROTO_TCP);
    } else if (arrival->question.protocol == IPPROTO_UDP) {
        now = bpf_ktime_get_ns();
        if (bh_is_expected(arrival, &key, &listener, &flow, now, reached))
            return SK_PASS;
    } else {
        return SK_PASS;
    }
    return bh_decide_arrival(arrival, listener, &key, flow, now, reached);
}

#endif
