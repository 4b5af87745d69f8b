/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The last user of a socket has closed it. Its addresses are read by CO-RE: this hook's context offers none. */
#include "bpf/listeners.h"

#define BH_IPPROTO_MPTCP 262
#define BH_STATE_ESTABLISHED 1
#define BH_STATE_CLOSE 7
#define BH_STATE_LISTEN 10

/* connect(2) on a socket bound to a wildcard narrows its address, so the key it was entered with may be a wildcard. */
static __always_inline void bh_forget_bound(struct bh_listener_key* key, __u64 cookie)
{
    if (bh_leave_listener(key, cookie))
        return;
    if (bh_is_v4(&key->address)) {
        bh_set_v4(&key->address, 0);
        if (bh_leave_listener(key, cookie))
            return;
    }
    bh_set_v6(&key->address, 0, 0, 0, 0);
    bh_leave_listener(key, cookie);
}

static __always_inline void bh_tell_udp_close(const struct sock* sock, const struct bh_listener_key* local,
                                              __u64 cookie)
{
    struct bh_address remote;
    bh_remote_address_of(sock, &remote);
    if (bh_is_loopback(&remote))
        return;
    struct bh_event* event = bh_reserve_flow_event(BH_EVENT_UDP_CLOSE);
    if (!event)
        return;
    event->cookie = cookie;
    event->local = local->address;
    event->netns = local->netns;
    event->local_port = local->port;
    event->remote = remote;
    event->remote_port = bh_remote_port_of(sock);
    event->protocol = IPPROTO_UDP;
    event->direction = BH_OUTBOUND;
    bh_submit_flow_event(event);
}

/* What an MPTCP socket hears with, which is a socket of the kernel's own that no hook shows being closed. */
static __always_inline const struct sock* bh_first_subflow(const struct sock* sock)
{
    const struct mptcp_sock* mptcp = (const void*)sock;
    return bpf_core_field_exists(mptcp->first) ? BPF_CORE_READ(mptcp, first) : NULL;
}

SEC("cgroup/sock_release")
int bh_sock_release(struct bpf_sock* ctx)
{
    __u32 protocol = ctx->protocol, state = ctx->state; /* of MPTCP, more than 8 bits, the lowest of which are TCP's */
    const struct sock* sock = bh_kernel_socket(ctx);
    __u64 cookie = 0;
    if (protocol == BH_IPPROTO_MPTCP) {
        sock = bh_first_subflow(sock);
        if (!sock)
            return 1;
        protocol = IPPROTO_TCP;
        state = BPF_CORE_READ(sock, __sk_common.skc_state);
        cookie = BPF_CORE_READ(sock, __sk_common.skc_cookie.counter);
    }
    struct bh_listener_key key = {.protocol = (__u8)protocol};
    if (protocol == IPPROTO_TCP) {
        /* Anything else is a connection, which never had an entry or lost it at connect(2). */
        if (state != BH_STATE_LISTEN && state != BH_STATE_CLOSE)
            return 1;
    } else if (protocol != IPPROTO_UDP) {
        return 1;
    }
    key.port = bh_local_port_of(sock);
    /* Connected, or once (connect(2) to nobody, by which it has lost its port). */
    int was_connected =
        protocol == IPPROTO_UDP && (state == BH_STATE_ESTABLISHED || BPF_CORE_READ(sock, sk_bpf_storage) != NULL);
    if (key.port == 0 && !was_connected)
        return 1;
    bh_local_address_of(sock, &key.address);
    key.netns = bh_netns_of(sock);
    if (!cookie)
        cookie = bpf_get_socket_cookie(ctx);
    if (was_connected)
        bh_tell_udp_close(sock, &key, cookie);
    if (key.port == 0)
        return 1;
    bh_forget_bound(&key, cookie);
    return 1;
}
