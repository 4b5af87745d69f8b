/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#include "bpf/connecting.h"

SEC("cgroup/connect6")
int bh_connect6(struct bpf_sock_addr* ctx)
{
    struct bh_departure departure = {};
    bh_set_v6(&departure.question.remote, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
    departure.question.port = bpf_ntohs((__u16)ctx->user_port);
    return bh_connect_door(ctx, &departure);
}
