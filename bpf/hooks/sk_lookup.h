/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The inbound door: runs for what no established or connected socket claims. SK_DROP answers like a closed port (reset,
 * port unreachable). remote_port is in network byte order, local_port in host byte order (linux/bpf.h).
 */
#include "bpf/arrivals.h"
#include "bpf/recent_udp.h"

static __always_inline void bh_read_remote(struct bpf_sk_lookup* ctx, struct bh_address* remote)
{
    if (ctx->family == BH_AF_INET) {
        bh_set_v4(remote, ctx->remote_ip4);
        BH_KEEP_BRANCHES_APART();
        return;
    }
    bh_set_v6(remote, ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3]);
}

static __always_inline void bh_read_local(struct bpf_sk_lookup* ctx, struct bh_address* local)
{
    if (ctx->family == BH_AF_INET) {
        bh_set_v4(local, ctx->local_ip4);
        BH_KEEP_BRANCHES_APART();
        return;
    }
    bh_set_v6(local, ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3]);
}

/* Not static, so that what follows is verified once, not again for each family. */
__noinline int bh_read_arrival(struct bpf_sk_lookup* ctx, struct bh_arrival* arrival)
{
    if (!arrival)
        return 0;
    bh_read_remote(ctx, &arrival->question.remote);
    bh_read_local(ctx, &arrival->local);
    arrival->remote_port = bpf_ntohs(ctx->remote_port);
    arrival->question.port = ctx->local_port;
    arrival->question.protocol = ctx->protocol;
    arrival->question.direction = BH_INBOUND;
    bh_forget_values(arrival, sizeof(*arrival));
    return 0;
}

/* Not an arrival: the guard looks for a socket that an ICMP error is about. */
static __always_inline int bh_guard_is_asking(void)
{
    __u32 zero = 0;
    const __u32* asks = bpf_map_lookup_elem(&bh_guard_asks, &zero);
    return asks && *asks;
}

/* Most datagrams that find no connected socket: those of a conversation that somebody else began, as a rule. */
static __always_inline int bh_arrival_goes_on(struct bpf_sk_lookup* ctx, __u32 netns)
{
    union bh_fresh_udp_key from;
    if (ctx->protocol != IPPROTO_UDP)
        return 0;
    if (ctx->family == BH_AF_INET) {
        bh_set_key_v4(&from, ctx->remote_ip4);
        BH_KEEP_BRANCHES_APART();
    } else {
        bh_set_key_v6(&from, ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3]);
    }
    bh_set_key_ports(&from, bpf_ntohs(ctx->remote_port), (__u16)ctx->local_port, netns);
    return bh_inbound_udp_goes_on(&from, bh_read_control(), 0);
}

static __always_inline int bh_arrives(struct bpf_sk_lookup* ctx, __u32 netns)
{
    if (bh_arrival_goes_on(ctx, netns) || bh_guard_is_asking())
        return SK_PASS;
    struct bh_arrival arrival = {.netns = netns};
    bh_read_arrival(ctx, &arrival);
    return bh_arrival_verdict(&arrival, (struct bh_reached){});
}

/* In the agent's namespace. */
SEC("sk_lookup")
int bh_sk_lookup(struct bpf_sk_lookup* ctx)
{
    return bh_arrives(ctx, guarded_netns);
}

/*
 * In all others. No context or helper of this program type says which one; so what is attached there is a gate of a few
 * instructions, made by the agent for that namespace, which writes its number into bh_gate and calls this by
 * bh_gate_program. Nothing comes between the two when it is a packet that is looked up: softirqs are off then. Whoever
 * asks by sock_diag(7) may get the answer of another namespace.
 */
SEC("sk_lookup")
int bh_sk_lookup_elsewhere(struct bpf_sk_lookup* ctx)
{
    __u32 zero = 0;
    const __u32* netns = bpf_map_lookup_elem(&bh_gate, &zero);
    return netns ? bh_arrives(ctx, *netns) : SK_PASS;
}
