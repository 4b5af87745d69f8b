/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* sendto(2), sendmsg(2) of both families at the outbound door: datagrams with an address of their own. */
#ifndef BULKHEAD_BPF_SENDING_H
#define BULKHEAD_BPF_SENDING_H

#include "bpf/outbound.h"

/*
 * A socket that sends without having been bound may have got the port of another (SO_REUSEADDR, SO_REUSEPORT), past the
 * bind hooks: either may be the one that hears. Not static: verified once, and with a frame of its own.
 */
__noinline int bh_mix_with_sender(const struct bh_departure* departure)
{
    struct bh_subject sender = {};
    if (!departure)
        return 0;
    struct bh_listener_key key = departure->local; /* before Linux 6.2, a key has to be on the stack */
    BH_KEEP_COPY(&key);
    struct bh_listener* held = bpf_map_lookup_elem(&bh_listeners, &key);
    if (!held || held->cookie == departure->cookie)
        return 0;
    bh_read_current(&sender);
    if (!bh_same_kind(&held->owner, &sender))
        held->mixed = 1;
    return 0;
}

/*
 * A socket that sends without having been bound got its port just now (inet_autobind), past the bind hooks, and
 * hears there from now on, whether or not this datagram may go. What arrives is in scope only if the table knows it.
 * False: the table is full, and what the socket hears would not be judged.
 */
static __always_inline int bh_know_sender(const struct bh_departure* departure)
{
    bh_hears_in(departure->sock, departure->local.netns);
    struct bh_listener* held = bpf_map_lookup_elem(&bh_listeners, &departure->local);
    if (held && held->cookie == departure->cookie)
        return 1;
    int may_share = held && bh_may_share_its_port(departure->sock);
    if (may_share && !held->mixed && !bh_named_its_port(departure->sock))
        bh_mix_with_sender(departure);
    if (held && held->sharers > 0)
        return 1;
    if (held && !may_share) { /* what a socket left that is gone: this one's from now on */
        held->cookie = departure->cookie;
        held->mixed = 0;
    }
    return bh_enter_listener(&departure->local, departure->cookie, BH_LISTENER_BOUND, bh_v6only_of(departure->sock)) ==
               0 ||
           scope_is_root;
}

/*
 * The port of a conversation may be another socket's by now (SO_REUSEADDR, SO_REUSEPORT, or its owner has gone), and a
 * conversation is one process': who sends there then begins one of his own. Those of a service that share a port and
 * send in turn are of one kind, and go on with each other's; told of is one of them, once in BH_UDP_SIBLINGS_NS, well
 * before the agent takes the record for ended whose socket has gone. Not static: verified once.
 */
__noinline int bh_is_of_sender(const struct bh_udp_flow* flow, const struct bh_departure* departure)
{
    if (!flow || !departure)
        return 0;
    if (flow->cookie == departure->cookie)
        return 1;
    return bh_same_kind(&flow->subject, &departure->subject) &&
           (__s64)(bpf_ktime_get_ns() - flow->opened_ns) < (__s64)BH_UDP_SIBLINGS_NS;
}

/* False: there is no room to remember what the reply needs. */
static __always_inline int bh_note_departure(const struct bh_udp_flow_key* key, struct bh_udp_flow* flow,
                                             const struct bh_departure* departure, __u64 now)
{
    int begins = !flow;
    if (begins) {
        if (!bh_begin_udp_flow(key, now, departure->cookie, &departure->question, &departure->subject) &&
            !bh_replies_pass_anyway(&departure->question, departure->local.port))
            return 0;
        flow = bh_find_udp_flow(key, BH_OUTBOUND);
    }
    if (flow) {
        flow->cookie = departure->cookie;
        flow->within = departure->question.loopback != BH_LOOPBACK_NONE;
        /* Within the host each datagram is looked at: where it says that it comes from counts. */
        bh_settle_udp_flow(flow, departure->question.control.generation,
                           !departure->answer.on_time && !bh_goes_to_itself(departure) &&
                               !bh_planes_look_at_processes(departure->question.control));
        bh_touch_udp_flow(flow, now);
    }
    if (begins && !bh_is_loopback(&departure->question.remote))
        bh_tell_departure(departure, flow != NULL);
    return 1;
}

/*
 * The port that a conversation came to may be another's by now. Where planes look at processes, what goes back is an
 * answer if it comes from the socket that heard, from another of the same unit, program and user, or from whom the
 * policy would let hear this peer there; else it is a departure like any other.
 */
__noinline int bh_may_answer(struct bh_departure* departure, const struct bh_udp_flow* heard)
{
    if (!departure || !heard)
        return 0;
    struct bh_question* question = &departure->question;
    struct bh_control control = question->control;
    struct bh_plane_answer answer = {};

    if (heard->cookie == departure->cookie || !bh_planes_look_at_processes(control))
        return 1;
    bh_subject_of_current(&departure->subject);
    if (bh_same_kind(&departure->subject, &heard->subject))
        return 1;
    bh_classes_of_current(bh_leading_slot(control), &departure->subject, &question->classes);
    __u16 remote_port = bh_ask_inbound(departure);
    bh_judge_plane(question, bh_leading_slot(control), &answer);
    question->direction = BH_OUTBOUND;
    question->port = remote_port;
    return answer.verdict == BH_ALLOWED;
}

/* What came from an address of the namespace's own: if it still is one. */
static __always_inline int bh_may_answer_within(struct bpf_sock_addr* ctx, struct bh_departure* departure)
{
    struct bh_question* question = &departure->question;
    if (!bh_stays_in(&question->remote, departure->local.netns))
        return 0;
    question->loopback = bh_is_loopback(&question->remote) ? BH_LOOPBACK_ADDRESS : BH_LOOPBACK_OWN;
    return bh_may_go_to_own(ctx, departure);
}

/*
 * Most datagrams. Who is asked has the lower port as a rule, so what goes to a higher one is an answer, and one look-up
 * finds it. What is not found here, as between equal ports, is looked at in full. The address of `to` is set.
 */
static __always_inline int bh_departure_goes_on(struct bpf_sock_addr* ctx, union bh_fresh_udp_key* to)
{
    struct bpf_sock* socket = ctx->sk;
    if (!socket || ctx->type != BH_SOCK_DGRAM || ctx->protocol != IPPROTO_UDP || !socket->src_port)
        return 0;
    __u16 remote_port = bpf_ntohs((__u16)ctx->user_port), local_port = (__u16)socket->src_port;
    bh_set_key_ports(to, remote_port, local_port, bh_netns_of_context_socket(socket));
    struct bh_control control = bh_read_control();
    if (remote_port > local_port)
        return bh_inbound_udp_goes_on(to, control, 1);
    const struct bh_udp_flow* begun = bh_find_udp_flow(&to->key, BH_OUTBOUND);
    return begun && bh_udp_flow_is_under_way(begun, control) && begun->cookie == bh_cookie_of(ctx, socket);
}

/* Not static: what follows is verified once, not again for each way through here. */
__noinline int bh_read_sender(struct bpf_sock_addr* ctx, struct bh_departure* departure)
{
    if (!departure)
        return 0;
    bh_read_socket(ctx, departure);
    departure->question.control = bh_read_control();
    bh_forget_values(departure, sizeof(*departure));
    return 0;
}

/* A datagram with an address of its own. `source_is_foreign`: whether it is to come from an address that is not ours.
 */
static __always_inline int bh_sendmsg_door(struct bpf_sock_addr* ctx, struct bh_departure* departure,
                                           int (*source_is_foreign)(struct bpf_sock_addr*))
{
    struct bh_question* question = &departure->question;
    struct bpf_sock* socket = ctx->sk;
    question->protocol = bh_protocol_of(ctx);
    if (question->protocol != IPPROTO_UDP || !socket)
        return BH_PASS;
    bh_read_sender(ctx, departure);
    /* It sends with ancillary data: the kernel shows no destination, and takes none that has this port. */
    int connected = ctx->user_port == 0;
    if (BH_UNLIKELY(connected))
        bh_read_peer(socket, departure);
    if (BH_UNLIKELY(bh_goes_to_itself(departure) && source_is_foreign(ctx) &&
                    bh_refuse_pretender(departure, BH_OUTBOUND)))
        return BH_REFUSE;
    if (BH_UNLIKELY(connected))
        return BH_PASS; /* judged at connect(2) */
    if (bh_stays_here_freely(departure, socket))
        return bh_know_sender(departure) ? BH_PASS : BH_REFUSE;

    struct bh_udp_flow_key key = {.remote = question->remote,
                                  .remote_port = question->port,
                                  .local_port = departure->local.port,
                                  .netns = departure->local.netns};
    __u64 now = bpf_ktime_get_ns();
    struct bh_udp_flow* flow = bh_live_udp_flow(&key, BH_OUTBOUND, now);
    if (flow && flow->cookie == departure->cookie && bh_udp_flow_settled(flow, question->control)) {
        bh_touch_udp_flow(flow, now);
        return BH_PASS;
    }
    struct bh_udp_flow* answered = bh_live_udp_flow(&key, BH_INBOUND, now);
    if (answered && bh_udp_flow_may_be_answered(answered) &&
        (bh_udp_flow_settled(answered, question->control) || bh_may_answer(departure, answered)) &&
        (!answered->within || bh_may_answer_within(ctx, departure))) {
        bh_reply_seen(answered, now);
        return BH_PASS;
    }
    if (!bh_know_sender(departure))
        return BH_REFUSE;

    bh_judge_departure(ctx, departure);
    flow = bh_is_of_sender(flow, departure) ? flow : NULL;
    /* The shadow plane's refusal is told once a conversation and policy, not once a datagram. */
    int told = flow && bh_udp_flow_is_known_to(flow, question->control);
    if (departure->answer.verdict == BH_DENIED || (departure->answer.shadow_verdict == BH_DENIED && !told))
        bh_tell_departure_denied(departure);
    if (departure->answer.verdict == BH_DENIED)
        return BH_REFUSE;
    if (!bh_may_go_to_own(ctx, departure) || !bh_note_departure(&key, flow, departure, now)) {
        bh_refuse_as_full(departure);
        bh_tell_departure_denied(departure);
        return BH_REFUSE;
    }
    return BH_PASS;
}

#endif
