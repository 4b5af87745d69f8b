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
    event->local_port = departure->local.port;
    event->remote_port = departure->question.port;
    event->subject = departure->subject;
}

static __always_inline void bh_tell_departure_denied(const struct bh_departure* departure)
{
    struct bh_attempt attempt = {.local = departure->local.address,
                                 .cookie = departure->cookie,
                                 .local_port = departure->local.port,
                                 .remote_port = departure->question.port,
                                 .protocol = departure->question.protocol,
                                 .direction = BH_OUTBOUND};
    bh_tell_denied(&departure->question, &departure->answer, &attempt, &departure->subject);
}

static __always_inline void bh_tell_departure(const struct bh_departure* departure)
{
    struct bh_event* event = bh_reserve_flow_event(BH_EVENT_CONNECT);
    if (BH_UNLIKELY(!event))
        return;
    bh_describe_departure(event, departure);
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

/* A peer from before the socket's storage is as good as ever. Its lock is held, so that it is one peer. Not static. */
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
    if (asked)
        bh_add_peer(asked, &peer, bpf_ntohs((__u16)socket->dst_port));
    return 0;
}

/*
 * Of UDP, before the socket gets its first peer, and before it gets another. False: there is no memory, and a plane in
 * force would refuse.
 */
static __always_inline int bh_may_get_peers(struct bpf_sock_addr* ctx, const struct bh_departure* departure)
{
    struct bpf_sock* socket = ctx->sk;
    if (departure->question.protocol != IPPROTO_UDP || !socket)
        return 1;
    struct bh_asked* asked = bpf_sk_storage_get(&bh_asked_peers, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (!asked)
        return !bh_role_enforces(departure->question.control.active_slot, BH_OUTBOUND);
    if (!asked->writes && !asked->to_own)
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
    if (asked && !bh_is_asked_peer(asked, &departure->question.remote, departure->question.port))
        bh_add_peer(asked, &departure->question.remote, departure->question.port);
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

    bh_judge_departure(ctx, departure);
    if (BH_UNLIKELY(departure->answer.verdict != BH_DENIED && (!is_kept_to || !bh_may_go_to_own(ctx, departure))))
        bh_refuse_as_full(departure);
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
        bh_tell_departure(departure);
    return BH_PASS;
}

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
        bh_tell_departure(departure);
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
    __u16 remote_port = question->port;

    if (heard->cookie == departure->cookie || !bh_planes_look_at_processes(control))
        return 1;
    bh_subject_of_current(&departure->subject);
    if (bh_same_kind(&departure->subject, &heard->subject))
        return 1;
    bh_classes_of_current(bh_leading_slot(control), &departure->subject, &question->classes);
    struct bh_address remote = question->remote; /* before Linux 6.2, a key has to be on the stack */
    BH_KEEP_COPY(&remote);
    question->loopback = bh_loopback_of(&remote, departure->local.netns);
    question->direction = BH_INBOUND;
    question->port = departure->local.port;
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
    if (answered && (answered->heard || answered->answered) &&
        (bh_udp_flow_settled(answered, question->control) || bh_may_answer(departure, answered)) &&
        (!answered->within || bh_may_answer_within(ctx, departure))) {
        bh_reply_seen(answered, now);
        return BH_PASS;
    }
    if (!bh_know_sender(departure))
        return BH_REFUSE;

    bh_judge_departure(ctx, departure);
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
