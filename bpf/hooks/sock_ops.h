/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * TCP life: established, closed, listening. Three calls a connection, nothing a segment, no state of ours. The owner of
 * a connection is not read here: the door that let it pass told it (CONNECT, joined by cookie), or the listener has it.
 */
#include "bpf/acceptance.h"
#include "bpf/listeners.h"
#include "bpf/loopback.h"

#define BH_TCP_CLOSE 7
#define BH_TCP_FIN_WAIT2 5

/* The kernel's own structure, whose members are plain loads; by a type alone where that is offered, without a call. */
static __always_inline const struct tcp_sock* bh_tcp_socket(struct bpf_sock_ops* ctx)
{
    struct bpf_sock* socket = ctx->sk;
    if (!socket)
        return NULL;
    if (bpf_rdonly_cast)
        return bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct tcp_sock));
    return (const struct tcp_sock*)bpf_skc_to_tcp_sock(socket);
}

static __always_inline void bh_read_ends(struct bpf_sock_ops* ctx, struct bh_address* local, struct bh_address* remote)
{
    if (ctx->family == BH_AF_INET) {
        bh_set_v4(local, ctx->local_ip4);
        bh_set_v4(remote, ctx->remote_ip4);
        BH_KEEP_BRANCHES_APART();
        return;
    }
    bh_set_v6(local, ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3]);
    bh_set_v6(remote, ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3]);
}

static __always_inline void bh_describe_connection(struct bh_event* event, struct bpf_sock_ops* ctx,
                                                   const struct tcp_sock* tcp, const struct bh_address* local,
                                                   const struct bh_address* remote)
{
    event->netns = tcp ? bh_loaded_netns_of((const struct sock*)tcp) : 0;
    event->cookie = bh_cookie_of(ctx, ctx->sk);
    event->local = *local;
    event->remote = *remote;
    event->local_port = ctx->local_port;
    event->remote_port = bpf_ntohl(ctx->remote_port);
    event->protocol = IPPROTO_TCP;
    event->rtt_us = ctx->srtt_us >> 3; /* kept by the kernel in eighths */
    event->packets_out = ctx->segs_out;
    event->packets_in = ctx->segs_in;
    event->retransmits = ctx->total_retrans;
}

/*
 * What let this inbound connection pass, for its record; the SYN itself left no event. A transparent proxy (TPROXY) has
 * connections at ends where it does not listen, and the door judged where it does. The ends are not taken from the
 * event: before Linux 6.2, memory of a ring cannot be the key of a look-up.
 */
static __always_inline void bh_describe_acceptance(struct bh_event* event, const struct tcp_sock* tcp,
                                                   const struct bh_address* local, const struct bh_address* remote)
{
    struct bh_question question = {
        .remote = *remote, .port = event->local_port, .protocol = IPPROTO_TCP, .direction = BH_INBOUND};
    struct bh_answer answer = {};
    question.control = bh_read_control();
    const struct bh_listener* listener = NULL;
    if (tcp) {
        __u32 netns = event->netns;
        if (BH_LIKELY(bh_recall_acceptance(event, netns, question.control)))
            return;
        if (BH_UNLIKELY(bh_opened_of(tcp) == BH_OPENED_BY_CONNECT)) { /* simultaneous open (RFC 9293, 3.5) */
            event->direction = BH_OUTBOUND;
            return;
        }
        question.loopback = bh_loopback_of(remote, netns);
        listener = bh_find_listener(netns, local, event->local_port, IPPROTO_TCP);
    }
    if (listener && bh_planes_look_at_processes(question.control))
        bh_judge_listener(&question, listener, &answer);
    else
        bh_judge_anybody(&question, &answer);
    bh_describe_verdict(event, &question, &answer);
    int denied = answer.verdict == BH_DENIED || answer.shadow_verdict == BH_DENIED;
    event->guessed = !listener || (denied && bh_is_transparent(tcp));
    if (listener)
        event->subject = listener->owner;
}

static __always_inline void bh_established(struct bpf_sock_ops* ctx, __u8 direction)
{
    struct bh_address local, remote;
    bh_read_ends(ctx, &local, &remote);
    if (BH_UNLIKELY(bh_is_loopback(&remote)))
        return;
    /* Asks for the close of this socket; whatever other programs asked for stays. */
    bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
    /* CONNECT told who. */
    struct bh_event* event = direction == BH_OUTBOUND ? bh_reserve_brief_event(BH_EVENT_ESTABLISHED)
                                                      : bh_reserve_flow_event(BH_EVENT_ESTABLISHED);
    if (!event)
        return;
    const struct tcp_sock* tcp = bh_tcp_socket(ctx);
    bh_describe_connection(event, ctx, tcp, &local, &remote);
    event->tcp_state = ctx->state;
    event->direction = direction;
    if (direction == BH_INBOUND)
        bh_describe_acceptance(event, tcp, &local, &remote);
    bh_submit_flow_event(event);
}

/*
 * Payload bytes. bytes_acked and bytes_received count sequence numbers, SYN and FIN among them; what was sent less what
 * was sent again does not, and the peer's FIN has been counted when SOCK_DONE says that it came.
 */
static __always_inline void bh_read_bytes(struct bh_event* event, const struct tcp_sock* tcp)
{
    if (!tcp)
        return;
    event->bytes_out = tcp->bytes_sent - tcp->bytes_retrans;
    event->bytes_in = tcp->bytes_received;
    unsigned long flags = ((const struct sock*)tcp)->__sk_common.skc_flags;
    if ((flags >> SOCK_DONE_BIT & 1) && event->bytes_in > 0)
        event->bytes_in -= 1;
}

static __always_inline void bh_state_changed(struct bpf_sock_ops* ctx)
{
    struct bh_address local, remote;
    if (ctx->args[1] != BH_TCP_CLOSE)
        return;
    bh_read_ends(ctx, &local, &remote);
    if (BH_UNLIKELY(bh_is_loopback(&remote))) /* another program asked for this callback */
        return;
    struct bh_event* event = bh_reserve_brief_event(BH_EVENT_CLOSE);
    if (!event)
        return;
    const struct tcp_sock* tcp = bh_tcp_socket(ctx);
    bh_describe_connection(event, ctx, tcp, &local, &remote);
    bh_read_bytes(event, tcp);
    event->tcp_state = ctx->args[0]; /* the state that it closed from */
    bh_submit_flow_event(event);
}

static __always_inline void bh_listening(struct bpf_sock_ops* ctx)
{
    if (!ctx->sk)
        return;
    const struct sock* sock = bh_kernel_socket(ctx->sk);
    struct bh_listener_key key = {.protocol = IPPROTO_TCP, .netns = bh_netns_of(sock)};
    bh_hears_in(sock, key.netns);
    bh_local_address_of(sock, &key.address);
    key.port = bh_local_port_of(sock);
    bh_enter_listener(&key, bpf_get_socket_cookie(ctx), BH_LISTENER_LISTENING, bh_v6only_of(sock));
}

SEC("sockops")
int bh_sock_ops(struct bpf_sock_ops* ctx)
{
    switch (ctx->op) {
    case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB: bh_established(ctx, BH_OUTBOUND); break;
    case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB: bh_established(ctx, BH_INBOUND); break;
    case BPF_SOCK_OPS_STATE_CB: bh_state_changed(ctx); break;
    case BPF_SOCK_OPS_TCP_LISTEN_CB: bh_listening(ctx); break;
    }
    return 1;
}
