/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#include "bpf/outbound.h"

SEC("cgroup/sendmsg4")
int bh_sendmsg4(struct bpf_sock_addr* ctx)
{
    struct bh_address remote;
    bh_set_v4(&remote, ctx->user_ip4);
    if (bh_departure_goes_on(ctx, &remote))
        return BH_PASS;
    struct bh_departure departure = {.question.remote = remote};
    departure.question.port = bpf_ntohs((__u16)ctx->user_port);
    return bh_sendmsg_door(ctx, &departure);
}
