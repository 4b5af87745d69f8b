/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Options by which a socket would send past the doors and the guard: source routes (a packet goes elsewhere than where
 * the door was asked about), and the two ways past an interface's egress hook (packet(7): PACKET_QDISC_BYPASS; AF_XDP's
 * transmit ring). And one by which it would hear past them: a program that hands what comes to a port to a connected
 * socket of the port's group, from whomever, before sk_lookup is asked (__udp4_lib_lookup; connect(2) is refused to
 * those that have such a program already). Ancillary data of sendmsg(2) is not seen here, but by the guard.
 */
#include "bpf/denials.h"
#include "bpf/guard/judge.h"

#define BH_SOL_IP 0
#define BH_SOL_SOCKET 1
#define BH_SOL_IPV6 41
#define BH_SOL_PACKET 263
#define BH_SOL_XDP 283
#define BH_ATTACH_REUSEPORT_CBPF 51
#define BH_ATTACH_REUSEPORT_EBPF 52
#define BH_IP_OPTIONS 4
#define BH_IPV6_2292RTHDR 5
#define BH_IPV6_RTHDR 57
#define BH_PACKET_QDISC_BYPASS 20
#define BH_XDP_TX_RING 3

/* The kernel takes an int (packet(7)); what is not one is for it to refuse. */
static __always_inline int bh_number_is_set(struct bpf_sockopt* ctx)
{
    __u8* value = ctx->optval;
    __u8* end = ctx->optval_end;
    return value + 4 > end || (value[0] | value[1] | value[2] | value[3]) != 0;
}

static __always_inline int bh_is_source_route_option(struct bpf_sockopt* ctx)
{
    __u8* value = ctx->optval;
    __u8* end = ctx->optval_end;
#pragma unroll
    for (int i = 0; i < BH_OPTION_BYTES; i++) {
        if (value + i + 1 > end)
            return 0;
        if (value[i] == BH_OPTION_LSRR || value[i] == BH_OPTION_SSRR)
            return 1; /* also where it is another option's data: nothing in use looks like it */
    }
    return 0;
}

#define BH_SIBLINGS_AT_MOST 512

/* Also one that was connected first, and then joined by others. Of more than are looked at, one may be. */
static __always_inline int bh_has_connected_siblings(const struct bpf_sockopt* ctx)
{
    const struct bpf_sock* socket = ctx->sk;
    if (!socket)
        return 0;
    const struct sock_reuseport* group = bh_group_of(bh_kernel_socket(socket));
    if (!group)
        return 0;
    if (BPF_CORE_READ_BITFIELD_PROBED(group, has_conns))
        return 1;
    __u32 count = BPF_CORE_READ(group, num_socks);
    const __u64 first = (__u64)group + bpf_core_field_offset(struct sock_reuseport, socks);
    for (__u32 i = 0; i < BH_SIBLINGS_AT_MOST; i++) {
        const struct sock* sibling = NULL;
        __u8 state = 0;
        if (i >= count)
            return 0;
        bpf_probe_read_kernel(&sibling, sizeof(sibling), (void*)(first + i * sizeof(sibling)));
        BPF_CORE_READ_INTO(&state, sibling, __sk_common.skc_state);
        if (state == BPF_TCP_ESTABLISHED)
            return 1;
    }
    return 1;
}

static __always_inline int bh_is_way_around(struct bpf_sockopt* ctx)
{
    switch (ctx->level) {
    case BH_SOL_SOCKET:
        return (ctx->optname == BH_ATTACH_REUSEPORT_CBPF || ctx->optname == BH_ATTACH_REUSEPORT_EBPF) &&
               bh_has_connected_siblings(ctx);
    case BH_SOL_IP: return ctx->optname == BH_IP_OPTIONS && bh_is_source_route_option(ctx);
    case BH_SOL_IPV6: return (ctx->optname == BH_IPV6_RTHDR || ctx->optname == BH_IPV6_2292RTHDR) && ctx->optlen > 0;
    case BH_SOL_PACKET: return ctx->optname == BH_PACKET_QDISC_BYPASS && bh_number_is_set(ctx);
    case BH_SOL_XDP: return ctx->optname == BH_XDP_TX_RING;
    default: return 0;
    }
}

static __always_inline void bh_tell_option_denied(struct bh_control control, const struct bh_answer* answer,
                                                  __u8 direction)
{
    struct bh_question question = {.protocol = BH_PROTOCOL_OTHER, .direction = direction, .control = control};
    struct bh_attempt attempt = {.protocol = BH_PROTOCOL_OTHER, .direction = direction};
    struct bh_subject subject = {};
    bh_read_current(&subject);
    bh_tell_denied(&question, answer, &attempt, &subject);
}

SEC("cgroup/setsockopt")
int bh_setsockopt(struct bpf_sockopt* ctx)
{
    struct bh_answer answer = {};
    if (ctx->optlen > 4096)
        ctx->optlen = 0; /* longer than what a program is shown: the kernel shall use the caller's own bytes */
    if (!bh_is_way_around(ctx))
        return 1;
    struct bh_control control = bh_read_control();
    __u8 direction = ctx->level == BH_SOL_SOCKET ? BH_INBOUND : BH_OUTBOUND; /* what it would get past */
    if (bh_role_enforces(control.active_slot, direction)) {
        answer.verdict = BH_DENIED;
        answer.reason = BH_REASON_MALFORMED;
    }
    if (bh_role_enforces(control.shadow_slot, direction)) {
        answer.shadow_verdict = BH_DENIED;
        answer.shadow_reason = BH_REASON_MALFORMED;
    }
    if (answer.verdict != BH_DENIED && answer.shadow_verdict != BH_DENIED)
        return 1;
    bh_tell_option_denied(control, &answer, direction);
    return answer.verdict == BH_DENIED ? 0 : 1;
}
