/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#include "bpf/sending.h"

/* Not static: verified by itself, so that what follows is not verified once more for each of its ways out. */
__noinline int bh_datagram6_goes_on(struct bpf_sock_addr* ctx)
{
    union bh_fresh_udp_key to;
    bh_set_key_v6(&to, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
    return bh_departure_goes_on(ctx, &to);
}

/* Likewise, and with a frame of its own. What it is bound to, or what was said with it (IP_PKTINFO, IPV6_PKTINFO). */
__noinline int bh_source6_is_foreign(struct bpf_sock_addr* ctx)
{
    struct bh_address source;
    struct bpf_sock* socket = ctx->sk;
    if (!socket)
        return 0;
    bh_set_v6(&source, ctx->msg_src_ip6[0], ctx->msg_src_ip6[1], ctx->msg_src_ip6[2], ctx->msg_src_ip6[3]);
    return bh_is_foreign(socket, &source);
}

SEC("cgroup/sendmsg6")
int bh_sendmsg6(struct bpf_sock_addr* ctx)
{
    if (bh_datagram6_goes_on(ctx))
        return BH_PASS;
    struct bh_departure departure = {};
    bh_set_v6(&departure.question.remote, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
    departure.question.port = bpf_ntohs((__u16)ctx->user_port);
    return bh_sendmsg_door(ctx, &departure, bh_source6_is_foreign);
}
