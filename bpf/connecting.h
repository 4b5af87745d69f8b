/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* connect(2) of both families at the outbound door, and what is kept with a socket of whom it was asked about. */
#ifndef BULKHEAD_BPF_CONNECTING_H
#define BULKHEAD_BPF_CONNECTING_H

#include "bpf/outbound.h"
#include "bpf/udp_flows.h"

/*
 * A peer from before the socket's storage is as good as ever. Its lock is held, so that it is one peer. Not one that
 * stays here: the address may be another host's later, of which nobody was asked. Not static.
 */
__noinline int bh_add_peer_of_before(struct bpf_sock_addr* ctx)
{
    struct bpf_sock* socket = ctx->sk;
    if (!socket || socket->state != BPF_TCP_ESTABLISHED || !socket->dst_port)
        return 0;
    struct bh_asked* asked = bpf_sk_storage_get(&bh_asked_peers, socket, NULL, 0);
    struct bh_address peer;
    if (socket->family == BH_AF_INET6) {
        bh_set_v6(&peer, socket->dst_ip6[0], socket->dst_ip6[1], socket->dst_ip6[2], socket->dst_ip6[3]);
        BH_KEEP_BRANCHES_APART();
    } else {
        bh_set_v4(&peer, socket->dst_ip4);
    }
    if (asked && !bh_stays_in(&peer, bh_netns_of_context_socket(socket)))
        bh_add_peer(asked, &peer, bpf_ntohs((__u16)socket->dst_port), 0);
    return 0;
}

/*
 * Of UDP, before the socket gets its first peer, and before it gets another. Whom it has where it has storage already,
 * a door was asked about, or he stays here. False: there is no memory, and a plane in force would refuse.
 */
static __always_inline int bh_may_get_peers(struct bpf_sock_addr* ctx, const struct bh_departure* departure)
{
    struct bpf_sock* socket = ctx->sk;
    if (departure->question.protocol != IPPROTO_UDP || !socket)
        return 1;
    if (bpf_sk_storage_get(&bh_asked_peers, socket, NULL, 0))
        return 1;
    if (!bpf_sk_storage_get(&bh_asked_peers, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE))
        return !bh_role_enforces(departure->question.control.active_slot, BH_OUTBOUND);
    bh_add_peer_of_before(ctx);
    return 1;
}

/* Of a connect that was let pass; nobody loses his place to one that is there. Not static: verified once. */
__noinline int bh_note_peer(struct bpf_sock_addr* ctx, const struct bh_departure* departure)
{
    struct bpf_sock* socket = ctx->sk;
    if (!socket || !departure)
        return 0;
    struct bh_asked* asked = bpf_sk_storage_get(&bh_asked_peers, socket, NULL, 0);
    if (!asked)
        return 0;
    const struct bh_question* question = &departure->question;
    int answers = question->direction == BH_INBOUND;
    __u32 known = bh_find_asked_peer(asked, &question->remote, question->port);
    if (known)
        asked->answered = (__u16)(answers ? asked->answered | known : asked->answered & ~known);
    else
        bh_add_peer(asked, &question->remote, question->port, answers);
    return 0;
}

/*
 * A server may answer by a socket that it connects to whom it heard (socat, nc, QUIC, DTLS), which is not asked for
 * each datagram then. So it has to be at the port that was heard at, for good (what connect(2) or sendto(2) chose,
 * connect(2) can take away), something of this peer must have been read, and the policy in force let the process that
 * connects hear him there: by that it is judged as long as it lives. Not one that stays here: of him the socket keeps
 * nothing (bh_note_peer). True: the question is the inbound door's. Not static: verified once, and with a frame of its
 * own.
 */
__noinline int bh_connects_as_answer(struct bh_departure* departure)
{
    if (!departure || !departure->sock || !bh_named_its_port(departure->sock))
        return 0;
    struct bh_question* question = &departure->question;
    struct bh_control control = question->control;
    struct bh_udp_flow_key key = {.remote = question->remote,
                                  .remote_port = question->port,
                                  .local_port = departure->local.port,
                                  .netns = departure->local.netns};
    const struct bh_udp_flow* heard = bh_live_udp_flow(&key, BH_INBOUND, bpf_ktime_get_ns());
    if (!heard || !bh_udp_flow_may_be_answered(heard) || heard->within)
        return 0;
    bh_subject_of_current(&departure->subject);
    bh_only_any_process(&question->classes);
    if (bh_planes_look_at_processes(control)) {
        if (bh_is_kernel_thread(&departure->subject))
            return 0;
        bh_classes_of_current(bh_leading_slot(control), &departure->subject, &question->classes);
    }
    __u16 remote_port = bh_ask_inbound(departure);
    int stays = question->loopback != BH_LOOPBACK_NONE;
    if (!stays)
        bh_judge(question, &departure->answer);
    question->port = remote_port;
    __u8 refused = control.active_slot == BH_SLOT_NONE ? departure->answer.shadow_verdict : departure->answer.verdict;
    if (!stays && refused != BH_DENIED)
        return 1;
    question->loopback = BH_LOOPBACK_NONE;
    question->direction = BH_OUTBOUND;
    return 0;
}

/*
 * Of UDP: a program chooses who of those on its port hears (SO_ATTACH_REUSEPORT_CBPF, _EBPF). It may choose one that is
 * connected, to whom no inbound door is asked, for what comes from anybody; see bpf/hooks/setsockopt.h.
 */
static __always_inline int bh_hears_by_program(struct bpf_sock_addr* ctx, const struct bh_departure* departure)
{
    struct bpf_sock* socket = ctx->sk;
    if (departure->question.protocol != IPPROTO_UDP || !socket)
        return 0;
    if (departure->sock) {
        const struct sock_reuseport* group = bh_group_of(departure->sock);
        return BH_UNLIKELY(group != NULL) && BPF_CORE_READ(group, prog);
    }
    /* Bound to an address and no port (IP_BIND_ADDRESS_NO_PORT): it may join such a group yet, after this. */
    return BH_UNLIKELY(!bh_is_unspecified(&departure->local.address)) &&
           BPF_CORE_READ_BITFIELD_PROBED(bh_kernel_socket(socket), __sk_common.skc_reuseport);
}

/*
 * A connection that goes elsewhere: the socket may have tried its own namespace before. And whoever only connects is in
 * a namespace that the agent has to know, or nobody would look at his connections when the policy changes.
 */
__noinline int bh_connects_elsewhere(struct bpf_sock_addr* ctx)
{
    struct bpf_sock* socket = ctx->sk;
    if (!socket || bh_netns_of_context_socket(socket) == guarded_netns)
        return 0;
    bh_hears_in(bh_kernel_socket(socket), bh_netns_of_context_socket(socket));
    struct bh_asked* asked = bpf_sk_storage_get(&bh_asked_peers, socket, NULL, 0);
    if (asked && ctx->type == BH_SOCK_STREAM)
        asked->to_own = 0;
    return 0;
}

/* connect(2), both families; question.remote and question.port are set. */
static __always_inline int bh_connect_door(struct bpf_sock_addr* ctx, struct bh_departure* departure)
{
    struct bh_question* question = &departure->question;
    question->protocol = bh_protocol_of(ctx);
    if (!question->protocol)
        return BH_PASS;
    bh_read_socket(ctx, departure);
    question->control = bh_read_control();
    struct bpf_sock* socket = ctx->sk;
    if (BH_UNLIKELY(question->protocol == IPPROTO_UDP && socket && bh_goes_to_itself(departure) &&
                    bh_is_foreign(socket, &departure->local.address) && bh_refuse_pretender(departure, BH_OUTBOUND)))
        return BH_REFUSE;
    if (BH_UNLIKELY(bh_hears_by_program(ctx, departure)) && bh_refuse_pretender(departure, BH_INBOUND))
        return BH_REFUSE;
    int is_kept_to = bh_may_get_peers(ctx, departure);
    if (BH_UNLIKELY(bh_stays_here_freely(departure, socket)) && is_kept_to) {
        bh_bound_socket_connects(departure);
        return BH_PASS;
    }

    int may_answer = question->protocol == IPPROTO_UDP && departure->local.port != 0 && is_kept_to;
    if (BH_LIKELY(!may_answer || !bh_connects_as_answer(departure))) {
        bh_judge_departure(ctx, departure);
        if (BH_UNLIKELY(departure->answer.verdict != BH_DENIED && (!is_kept_to || !bh_may_go_to_own(ctx, departure))))
            bh_refuse_as_full(departure);
    }
    if (BH_UNLIKELY(departure->answer.verdict == BH_DENIED || departure->answer.shadow_verdict == BH_DENIED))
        bh_tell_departure_denied(departure);
    if (BH_UNLIKELY(departure->answer.verdict == BH_DENIED))
        return BH_REFUSE; /* it stays bound, and may listen yet */
    if (question->loopback == BH_LOOPBACK_NONE) {
        bh_connects_elsewhere(ctx);
        if (question->protocol == IPPROTO_UDP)
            bh_note_peer(ctx, departure);
    }
    bh_bound_socket_connects(departure);
    if (!bh_is_loopback(&question->remote)) /* of which flows are not told */
        bh_tell_departure(departure, 0);
    return BH_PASS;
}

#endif
