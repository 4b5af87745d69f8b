/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#include "bpf/connecting.h"

SEC("cgroup/connect4")
int bh_connect4(struct bpf_sock_addr* ctx)
{
    struct bh_departure departure = {};
    bh_set_v4(&departure.question.remote, ctx->user_ip4);
    departure.question.port = bpf_ntohs((__u16)ctx->user_port);
    return bh_connect_door(ctx, &departure);
}
