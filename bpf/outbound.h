/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What connect and sendmsg hooks of both families share: the outbound door, in the context of the process that goes
 * out. */
#ifndef BULKHEAD_BPF_OUTBOUND_H
#define BULKHEAD_BPF_OUTBOUND_H

#include "bpf/asked_peers.h"
#include "bpf/denials.h"
#include "bpf/listeners.h"
#include "bpf/loopback.h"
#include "bpf/recent_udp.h"

#define BH_PASS 1
#define BH_REFUSE 0 /* the caller of connect(2) or sendto(2) gets EPERM */

struct bh_departure {
    struct bh_question question;
    struct bh_answer answer;
    struct bh_subject subject;
    struct bh_listener_key local; /* the socket's own end, as the table would have it */
    __u64 cookie;
    const struct sock* sock;
};

static __always_inline __u8 bh_protocol_of(const struct bpf_sock_addr* ctx)
{
    if (ctx->type == BH_SOCK_STREAM && ctx->protocol == IPPROTO_TCP)
        return IPPROTO_TCP;
    if (ctx->type == BH_SOCK_DGRAM && ctx->protocol == IPPROTO_UDP)
        return IPPROTO_UDP;
    return 0;
}

/*
 * A thread of the kernel connects for somebody (an MPTCP subflow, a network file system). Of whom, only the socket's
 * cgroup is known.
 */
__noinline int bh_judge_kernel_departure(struct bh_departure* departure)
{
    if (!departure)
        return 0;
    struct bh_question* question = &departure->question;
    struct bh_class_vector possible;
    struct cgroup* cgroup = bh_cgroup_of(departure->sock);
    void* facets = bh_facet_table(question->control);

    departure->subject.cgroup_id = BPF_CORE_READ(cgroup, kn, id);
    bh_only_any_process(&question->classes);
    possible = question->classes;
    if (facets)
        bh_classes_of_cgroup(facets, cgroup, &question->classes, &possible);
    return bh_judge_unsure(question, &possible, &departure->answer);
}

/*
 * Bound to an interface other than lo (SO_BINDTODEVICE, which anybody may), it sends by that, whatever the address:
 * also 127.0.0.1 goes out on the wire (ip_route_output_key_hash_rcu: the local route's device is another).
 */
static __always_inline int bh_leaves_by_interface(struct bpf_sock* socket)
{
    return socket && socket->bound_dev_if > 1;
}

/* The socket's namespace is read only where it counts. */
static __always_inline void bh_ask_about_loopback(struct bpf_sock_addr* ctx, struct bh_departure* departure)
{
    struct bh_question* question = &departure->question;
    if (BH_UNLIKELY(bh_is_loopback(&question->remote))) {
        if (!bh_leaves_by_interface(ctx->sk))
            question->loopback = BH_LOOPBACK_ADDRESS;
        return;
    }
    __u32 marks = bh_own_address(&question->remote);
    if (BH_LIKELY(!marks))
        return;
    __u32 netns = departure->local.netns;
    struct bpf_sock* socket = ctx->sk;
    if (bh_leaves_by_interface(socket)) /* and may reach another's */
        return;
    if (!netns && socket)
        netns = bh_netns_of_context_socket(socket);
    question->loopback = bh_loopback_of_own(&question->remote, marks, netns);
}

static __always_inline void bh_judge_departure(struct bpf_sock_addr* ctx, struct bh_departure* departure)
{
    struct bh_question* question = &departure->question;
    question->direction = BH_OUTBOUND;
    bh_ask_about_loopback(ctx, departure);
    bh_subject_of_current(&departure->subject);
    int by_process = bh_planes_look_at_processes(question->control);
    if (BH_UNLIKELY(by_process) && bh_is_kernel_thread(&departure->subject) && departure->sock) {
        bh_judge_kernel_departure(departure);
    } else {
        if (BH_UNLIKELY(by_process))
            bh_classes_of_current(bh_leading_slot(question->control), &departure->subject, &question->classes);
        else
            bh_only_any_process(&question->classes);
        bh_judge(question, &departure->answer);
    }
    bh_count_verdict(&departure->answer, BH_OUTBOUND);
}

/*
 * The inbound door's question about the peer, at the socket's own port; what the outbound door had for a port is
 * returned. For functions that have no more than a pointer to the departure.
 */
static __always_inline __u16 bh_ask_inbound(struct bh_departure* departure)
{
    struct bh_question* question = &departure->question;
    __u16 remote_port = question->port;
    struct bh_address remote = question->remote; /* before Linux 6.2, a key has to be on the stack */
    BH_KEEP_COPY(&remote);
    question->loopback = bh_loopback_of(&remote, departure->local.netns);
    question->direction = BH_INBOUND;
    question->port = departure->local.port;
    return remote_port;
}

/*
 * Of what was let pass since it stays in its namespace, the guard must know that this is why: whoever administers the
 * namespace may route it elsewhere. False: there is no memory, and a plane in force would refuse.
 */
static __always_inline int bh_may_go_to_own(struct bpf_sock_addr* ctx, const struct bh_departure* departure)
{
    struct bpf_sock* socket = ctx->sk;
    if (BH_LIKELY(departure->question.loopback != BH_LOOPBACK_OWN) || !socket ||
        bh_netns_of_context_socket(socket) == guarded_netns)
        return 1;
    struct bh_asked* asked = bpf_sk_storage_get(&bh_asked_peers, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (!asked)
        return !bh_role_enforces(departure->question.control.active_slot, BH_OUTBOUND);
    asked->to_own = 1;
    return 1;
}

/* A verdict of "allowed" that cannot be kept to for want of memory. */
static __always_inline void bh_refuse_as_full(struct bh_departure* departure)
{
    departure->answer.verdict = BH_DENIED;
    departure->answer.reason = BH_REASON_FULL;
    bh_count_verdict(&departure->answer, BH_OUTBOUND);
}

static __always_inline void bh_describe_departure(struct bh_event* event, const struct bh_departure* departure)
{
    bh_describe_verdict(event, &departure->question, &departure->answer);
    event->cookie = departure->cookie;
    event->local = departure->local.address;
    event->netns = departure->local.netns;
    event->local_port = departure->local.port;
    event->remote_port = departure->question.port;
    event->subject = departure->subject;
}

/* Of an answer (bh_connects_as_answer) as of what came in. */
static __always_inline void bh_tell_departure_denied(struct bh_departure* departure)
{
    struct bh_attempt attempt = {.local = departure->local.address,
                                 .cookie = departure->cookie,
                                 .local_port = departure->local.port,
                                 .remote_port = departure->question.port,
                                 .protocol = departure->question.protocol,
                                 .direction = departure->question.direction};
    if (BH_UNLIKELY(attempt.direction == BH_INBOUND)) {
        attempt.cookie = 0;
        attempt.netns = departure->local.netns;
        departure->question.port = attempt.local_port;
    }
    bh_tell_denied(&departure->question, &departure->answer, &attempt, &departure->subject);
    departure->question.port = attempt.remote_port;
}

static __always_inline void bh_tell_departure(const struct bh_departure* departure, int listed)
{
    struct bh_event* event = bh_reserve_flow_event(BH_EVENT_CONNECT);
    if (BH_UNLIKELY(!event))
        return;
    bh_describe_departure(event, departure);
    event->listed = (__u8)listed;
    bh_submit_flow_event(event);
}

static __always_inline void bh_read_peer(struct bpf_sock* socket, struct bh_departure* departure)
{
    if (socket->family == BH_AF_INET6) {
        bh_set_v6(&departure->question.remote, socket->dst_ip6[0], socket->dst_ip6[1], socket->dst_ip6[2],
                  socket->dst_ip6[3]);
        BH_KEEP_BRANCHES_APART();
        return;
    }
    bh_set_v4(&departure->question.remote, socket->dst_ip4);
}

static __always_inline void bh_read_local_end(struct bpf_sock* socket, struct bh_departure* departure)
{
    departure->local.port = socket->src_port;
    if (socket->family == BH_AF_INET6) {
        bh_set_v6(&departure->local.address, socket->src_ip6[0], socket->src_ip6[1], socket->src_ip6[2],
                  socket->src_ip6[3]);
        BH_KEEP_BRANCHES_APART();
        return;
    }
    bh_set_v4(&departure->local.address, socket->src_ip4);
}

/* What the context offers are plain loads. Only a socket with a port can be in a table, and only then its namespace
 * counts. */
static __always_inline void bh_read_socket(struct bpf_sock_addr* ctx, struct bh_departure* departure)
{
    departure->cookie = bpf_get_socket_cookie(ctx);
    struct bpf_sock* socket = ctx->sk;
    if (!socket)
        return;
    bh_read_local_end(socket, departure);
    if (BH_LIKELY(departure->local.port == 0))
        return;
    departure->sock = bh_kernel_socket(socket);
    departure->local.protocol = departure->question.protocol;
    departure->local.netns = bh_netns_of_context_socket(socket);
}

/* A TCP socket that was bound and now connects is a client: its port is no listener's. */
static __always_inline void bh_bound_socket_connects(const struct bh_departure* departure)
{
    if (BH_LIKELY(departure->local.port == 0) || departure->question.protocol != IPPROTO_TCP)
        return;
    bh_leave_listener(&departure->local, departure->cookie);
}

/*
 * The unspecified address as a destination is the host itself: 127.0.0.1 or ::1, or what the socket is bound to
 * (ip_route_output_key_hash_rcu, tcp_v6_connect, ip6_datagram_connect, udpv6_sendmsg).
 */
static __always_inline void bh_resolve_unspecified(struct bh_departure* departure)
{
    struct bh_address* remote = &departure->question.remote;
    const struct bh_address* local = &departure->local.address;
    if (BH_LIKELY(!bh_is_unspecified(remote)))
        return;
    if (bh_is_v4(remote) && bh_is_v4(local) && !bh_is_unspecified(local)) {
        *remote = *local;
        return;
    }
    if (bh_is_v4(local))
        bh_set_v4(remote, 0);
    bh_set_loopback(remote);
}

/* True when it is bound for loopback, and nothing in force is about that. */
static __always_inline int bh_stays_here_freely(struct bh_departure* departure, struct bpf_sock* socket)
{
    const struct bh_question* question = &departure->question;
    bh_resolve_unspecified(departure);
    return bh_is_loopback(&question->remote) && !bh_leaves_by_interface(socket) &&
           !bh_planes_are_about_loopback(question->control);
}

/*
 * A datagram that stays on the host passes no guard. From a source that is not the host's it would arrive in the name
 * of a peer, and what is sent to that peer then would count as an answer. IPv6 lets anybody choose such a source
 * (IPV6_FREEBIND); IPv4 takes IP_TRANSPARENT, of which transparent proxies make use, and which takes a capability that
 * makes packets, too. Not static, as the next: verified once, and what comes after it not once for each way through it.
 */
__noinline int bh_goes_to_itself(const struct bh_departure* departure)
{
    if (!departure)
        return 0;
    const struct bh_address* remote = &departure->question.remote;
    int to_many = (bh_const_words(remote)[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000); /* ff00::/8 */
    return bh_is_unspecified(remote) || bh_is_loopback(remote) || to_many || bh_is_ours(remote);
}

/* `source`: 0 where the kernel chooses a true one. Groups are no source (RFC 4291, 2.7): such a socket sends from
 * another. */
static __always_inline int bh_is_foreign(struct bpf_sock* socket, const struct bh_address* source)
{
    int group = (bh_const_words(source)[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
    if (bh_is_unspecified(source) || bh_is_loopback(source) || bh_is_v4(source) || group)
        return 0;
    return !bh_is_own_source(source, bh_netns_of_context_socket(socket)) && !bh_is_transparent(socket);
}

/* True: a plane in force refuses it, whatever rules say. `direction`: of what it would get past. */
__noinline int bh_refuse_pretender(struct bh_departure* departure, __u32 direction)
{
    if (!departure)
        return 0;
    direction &= 1;
    struct bh_control control = departure->question.control;
    departure->question.direction = BH_OUTBOUND;
    __builtin_memset(&departure->answer, 0, sizeof(departure->answer));
    if (bh_role_enforces(control.active_slot, direction)) {
        departure->answer.verdict = BH_DENIED;
        departure->answer.reason = BH_REASON_MALFORMED;
    }
    if (bh_role_enforces(control.shadow_slot, direction)) {
        departure->answer.shadow_verdict = BH_DENIED;
        departure->answer.shadow_reason = BH_REASON_MALFORMED;
    }
    if (departure->answer.verdict != BH_DENIED && departure->answer.shadow_verdict != BH_DENIED)
        return 0;
    bh_subject_of_current(&departure->subject);
    bh_tell_departure_denied(departure);
    return departure->answer.verdict == BH_DENIED;
}

#endif
