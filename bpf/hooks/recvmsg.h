/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a process has read, and from whom. The inbound door sees look-ups, and not every look-up is for a datagram that
 * arrives: the kernel looks up whose a datagram was that an ICMP error quotes (__udp4_lib_err), and whose one may be
 * that it merges with others before any filter has seen it (udp4_gro_lookup_skb). So an answer is what goes back to
 * an end from which something was read. Asked for each datagram that is read with its sender's address.
 */
#include "bpf/outbound.h"
#include "bpf/recent_udp.h"

static __always_inline int bh_is_read(struct bpf_sock_addr* ctx, union bh_fresh_udp_key* from)
{
    struct bpf_sock* socket = ctx->sk;
    if (!socket || ctx->protocol != IPPROTO_UDP || socket->dst_port)
        return 1; /* a connected one was judged when it connected */
    bh_set_key_ports(from, bpf_ntohs((__u16)ctx->user_port), (__u16)socket->src_port,
                     bh_netns_of_context_socket(socket));
    if (bh_is_recent_udp(from, bh_read_control(), 1))
        return 1;
    struct bh_udp_flow* flow = bh_find_udp_flow(&from->key, BH_INBOUND);
    if (flow && !flow->heard)
        flow->heard = 1;
    return 1; /* the only answer that the kernel takes */
}

SEC("cgroup/recvmsg4")
int bh_recvmsg4(struct bpf_sock_addr* ctx)
{
    union bh_fresh_udp_key from;
    bh_set_key_v4(&from, ctx->user_ip4);
    return bh_is_read(ctx, &from);
}

SEC("cgroup/recvmsg6")
int bh_recvmsg6(struct bpf_sock_addr* ctx)
{
    union bh_fresh_udp_key from;
    bh_set_key_v6(&from, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
    return bh_is_read(ctx, &from);
}
