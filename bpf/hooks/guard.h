/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The guard on interfaces (tcx, clsact): one program a side, and for devices with an Ethernet header and without. */
#include "bpf/guard/entering.h"
#include "bpf/guard/leaving.h"

SEC("tc")
int bh_guard_in_ether(struct __sk_buff* skb)
{
    return bh_enters(skb, ETH_HLEN);
}

SEC("tc")
int bh_guard_out_ether(struct __sk_buff* skb)
{
    return bh_leaves(skb, ETH_HLEN);
}

SEC("tc")
int bh_guard_in_bare(struct __sk_buff* skb)
{
    return bh_enters(skb, 0);
}

SEC("tc")
int bh_guard_out_bare(struct __sk_buff* skb)
{
    return bh_leaves(skb, 0);
}
