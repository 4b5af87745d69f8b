/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Questions to the running kernel: each program is loaded alone and attached nowhere, and the answer is whether it loads
 * (agent/datapath/kernel_features.h).
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/kernel_types.h"

/* A function that is proven once, by itself, and takes a pointer (Linux 5.12). */
__noinline int bh_takes_pointer(const struct in6_addr* address)
{
    return address ? address->in6_u.u6_addr8[0] : 0;
}

SEC("tc")
int bh_pointer_arguments(struct __sk_buff* skb)
{
    struct in6_addr address = {};
    return bh_takes_pointer(&address);
}

/* A walk may ask for a socket's cookie, which makes one where there is none (Linux 5.12). */
SEC("iter/tcp")
int bh_cookies_in_walk(struct bpf_iter__tcp* ctx)
{
    struct sock_common* common = ctx->sk_common;
    return common && bpf_get_socket_cookie(common) == 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
