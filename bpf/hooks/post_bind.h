/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* bind(2) has succeeded. A UDP socket hears from now on; a TCP socket when it listens (sock_ops). */
#include "bpf/listeners.h"

/*
 * 1, or 0 to fail the bind with EPERM: where only what the table knows is judged, a socket that it has no room for must
 * not hear.
 */
static __always_inline int bh_socket_bound(struct bpf_sock* ctx, struct bh_listener_key* key, __u8 v6only)
{
    __u8 state;
    if (ctx->protocol == IPPROTO_TCP)
        state = BH_LISTENER_BOUND;
    else if (ctx->protocol == IPPROTO_UDP)
        state = BH_LISTENER_LISTENING;
    else
        return 1;
    /* Port 0: IP_BIND_ADDRESS_NO_PORT, a client that will get its port at connect(2). */
    if (ctx->src_port == 0)
        return 1;
    const struct sock* sock = bh_kernel_socket(ctx);
    /*
     * The kernel's own (a network file system's), which no hook shows being closed; when it listens, sock_ops enters it.
     * Where only what the table knows is judged, none is in scope but those of MPTCP sockets.
     */
    if (state == BH_LISTENER_BOUND && scope_is_root && BPF_CORE_READ_BITFIELD_PROBED(sock, sk_kern_sock))
        return 1;
    key->netns = bh_netns_of(sock);
    bh_hears_in(sock, key->netns);
    key->port = ctx->src_port;
    key->protocol = ctx->protocol;
    int known = bh_enter_listener(key, bpf_get_socket_cookie(ctx), state, v6only) == 0;
    return known || scope_is_root;
}

SEC("cgroup/post_bind4")
int bh_post_bind4(struct bpf_sock* ctx)
{
    struct bh_listener_key key = {};
    bh_set_v4(&key.address, ctx->src_ip4);
    return bh_socket_bound(ctx, &key, 0);
}

SEC("cgroup/post_bind6")
int bh_post_bind6(struct bpf_sock* ctx)
{
    struct bh_listener_key key = {};
    bh_set_v6(&key.address, ctx->src_ip6[0], ctx->src_ip6[1], ctx->src_ip6[2], ctx->src_ip6[3]);
    return bh_socket_bound(ctx, &key, bh_v6only_of(bh_kernel_socket(ctx)));
}
