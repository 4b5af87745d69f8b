/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ends of sockets that are walked. Iterators hand out typed pointers, whose members are plain loads; with a call
 * for each, 50,000 sockets take twice as long.
 */
#ifndef BULKHEAD_BPF_ENDS_H
#define BULKHEAD_BPF_ENDS_H

#include "bpf/address.h"
#include "bpf/kernel_types.h"

static __always_inline void bh_load_v6(struct bh_address* address, const struct in6_addr* v6)
{
    const __u32* word = v6->in6_u.u6_addr32;
    bh_set_v6(address, word[0], word[1], word[2], word[3]);
}

static __always_inline void bh_load_local(const struct sock_common* common, struct bh_address* local)
{
    if (common->skc_family == BH_AF_INET6)
        bh_load_v6(local, &common->skc_v6_rcv_saddr);
    else
        bh_set_v4(local, common->skc_rcv_saddr);
}

static __always_inline void bh_load_remote(const struct sock_common* common, struct bh_address* remote)
{
    if (common->skc_family == BH_AF_INET6)
        bh_load_v6(remote, &common->skc_v6_daddr);
    else
        bh_set_v4(remote, common->skc_daddr);
}

#endif
