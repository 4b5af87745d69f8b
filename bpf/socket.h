/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reads of struct sock that no program context offers (CO-RE). */
#ifndef BULKHEAD_BPF_SOCKET_H
#define BULKHEAD_BPF_SOCKET_H

#include <bpf/bpf_core_read.h>

#include "bpf/address.h"
#include "bpf/kernel_types.h"
#include "bpf/maps.h"

/* States in which a struct sock is one in full (sk_fullsock() in include/net/sock.h). */
#define BH_FULL_STATES (((2u << BPF_TCP_CLOSING) - (1u << BPF_TCP_ESTABLISHED)) & ~(1u << BPF_TCP_TIME_WAIT))

/*
 * The kernel address behind a context's socket pointer. The verifier forbids arithmetic on such a pointer, which every
 * CO-RE read needs; read back from the stack it is a number like any other.
 */
static __always_inline const struct sock* bh_kernel_socket(const void* context_socket)
{
    const struct sock* sock = NULL;
    bpf_probe_read_kernel(&sock, sizeof(sock), &context_socket);
    return sock;
}

/* Any of these bits of inet_sock.inet_flags; 0: which they are is not known, and it may have them. */
static __always_inline int bh_has_inet_flag(const void* socket, __u64 bits)
{
    if (bits == 0)
        return 1;
    if (bpf_rdonly_cast) {
        const struct inet_sock* inet = bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct inet_sock));
        return (inet->inet_flags & bits) != 0;
    }
    const struct inet_sock* inet = (const void*)bh_kernel_socket(socket);
    return (BPF_CORE_READ(inet, inet_flags) & bits) != 0;
}

/* The socket was given the right to bind to addresses that are not the host's (ip(7): IP_FREEBIND, IP_TRANSPARENT). */
static __always_inline int bh_binds_anywhere(const struct bpf_sock* socket)
{
    if (bpf_core_field_exists(struct inet_sock, inet_flags))
        return bh_has_inet_flag(socket, foreign_source_bits);
    const struct inet_sock___before_6_6* inet = (const void*)bh_kernel_socket(socket);
    return BPF_CORE_READ_BITFIELD_PROBED(inet, freebind) || BPF_CORE_READ_BITFIELD_PROBED(inet, transparent);
}

/* It may be given connections to any address and port (IP_TRANSPARENT), which takes CAP_NET_ADMIN or CAP_NET_RAW. */
static __always_inline int bh_is_transparent(const void* socket)
{
    if (bpf_core_field_exists(struct inet_sock, inet_flags))
        return bh_has_inet_flag(socket, transparent_bit);
    const struct inet_sock___before_6_6* inet = (const void*)bh_kernel_socket(socket);
    return BPF_CORE_READ_BITFIELD_PROBED(inet, transparent);
}

/*
 * By inode number, not by cookie: bpf_get_netns_cookie() came to sock_ops in 5.15, and getsockopt(SO_NETNS_COOKIE), by
 * which the agent would learn its own, in 5.14.
 */
static __always_inline __u32 bh_netns_of(const struct sock* sock)
{
    return BPF_CORE_READ(sock, __sk_common.skc_net.net, ns.inum);
}

/* The same, where the verifier knows the type of the pointer. */
static __always_inline __u32 bh_loaded_netns_of(const struct sock* sock)
{
    struct net* net = sock->__sk_common.skc_net.net;
    return net->ns.inum;
}

/* The same of a context's socket: by loads where the kernel allows them. */
static __always_inline __u32 bh_netns_of_context_socket(const void* socket)
{
    if (bpf_rdonly_cast)
        return bh_loaded_netns_of(bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct sock)));
    return bh_netns_of(bh_kernel_socket(socket));
}

/* What a socket has been given already, as at its connect(2), need not be asked for. `context`: with `socket` in it. */
static __always_inline __u64 bh_cookie_of(void* context, const void* socket)
{
    if (socket && bpf_rdonly_cast) {
        const struct sock* sock = bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct sock));
        __u64 cookie = sock->__sk_common.skc_cookie.counter;
        if (cookie)
            return cookie;
    }
    return bpf_get_socket_cookie(context);
}

/* Of its namespace, by which one is told from another that had the same inode number before. 0: not known. */
static __always_inline __u64 bh_netns_cookie_of(const struct sock* sock)
{
    struct net* net = BPF_CORE_READ(sock, __sk_common.skc_net.net);
    if (bpf_core_field_exists(net->net_cookie))
        return BPF_CORE_READ(net, net_cookie);
    return 0;
}

#define BH_BINDPORT_LOCK 8 /* SOCK_BINDPORT_LOCK */

/* By bind(2). */
static __always_inline int bh_named_its_port(const struct sock* sock)
{
    return (BPF_CORE_READ_BITFIELD_PROBED(sock, sk_userlocks) & BH_BINDPORT_LOCK) != 0;
}

/* What the kernel knows of who began. `tcp`: where the verifier knows the type of the pointer. */
static __always_inline __u8 bh_opened_of(const struct tcp_sock* tcp)
{
    const struct inet_connection_sock* connection = (const void*)tcp;
    if (bh_named_its_port((const struct sock*)tcp))
        return BH_OPENED_BY_CONNECT;
    /* What a transparent proxy accepts is in the called port's bucket, which a connect(2) may have made. */
    if (connection->icsk_bind_hash->fastreuse < 0 && !bh_is_transparent(tcp))
        return BH_OPENED_BY_CONNECT;
    return BH_OPENED_UNKNOWN;
}

/* Whether it may get a port that another socket has (SO_REUSEADDR, SO_REUSEPORT, SO_BINDTODEVICE). */
static __always_inline int bh_may_share_its_port(const struct sock* sock)
{
    return BPF_CORE_READ_BITFIELD_PROBED(sock, __sk_common.skc_reuse) ||
           BPF_CORE_READ_BITFIELD_PROBED(sock, __sk_common.skc_reuseport) ||
           BPF_CORE_READ(sock, __sk_common.skc_bound_dev_if);
}

/* NULL: it shares its port with nobody (SO_REUSEPORT). */
static __always_inline const struct sock_reuseport* bh_group_of(const struct sock* sock)
{
    return BPF_CORE_READ(sock, sk_reuseport_cb);
}

static __always_inline __u16 bh_local_port_of(const struct sock* sock)
{
    return BPF_CORE_READ(sock, __sk_common.skc_num);
}

static __always_inline __u16 bh_remote_port_of(const struct sock* sock)
{
    return bpf_ntohs(BPF_CORE_READ(sock, __sk_common.skc_dport));
}

static __always_inline __u8 bh_v6only_of(const struct sock* sock)
{
    return BPF_CORE_READ_BITFIELD_PROBED(sock, __sk_common.skc_ipv6only);
}

/* The cgroup in which the socket was made; NULL where net_cls of cgroup v1 took the place (the value is odd). */
static __always_inline struct cgroup* bh_cgroup_of(const struct sock* sock)
{
    if (bpf_core_field_exists(sock->sk_cgrp_data.cgroup))
        return BPF_CORE_READ(sock, sk_cgrp_data.cgroup);
    const struct sock_cgroup_data___before_5_15* data = (const void*)&sock->sk_cgrp_data;
    __u64 value = BPF_CORE_READ(data, val);
    return value & 1 ? NULL : (struct cgroup*)value;
}

static __always_inline void bh_local_address_of(const struct sock* sock, struct bh_address* address)
{
    if (BPF_CORE_READ(sock, __sk_common.skc_family) == BH_AF_INET6) {
        struct in6_addr v6 = BPF_CORE_READ(sock, __sk_common.skc_v6_rcv_saddr);
        __builtin_memcpy(address, &v6, sizeof(*address));
        return;
    }
    bh_set_v4(address, BPF_CORE_READ(sock, __sk_common.skc_rcv_saddr));
}

static __always_inline void bh_remote_address_of(const struct sock* sock, struct bh_address* address)
{
    if (BPF_CORE_READ(sock, __sk_common.skc_family) == BH_AF_INET6) {
        struct in6_addr v6 = BPF_CORE_READ(sock, __sk_common.skc_v6_daddr);
        __builtin_memcpy(address, &v6, sizeof(*address));
        return;
    }
    bh_set_v4(address, BPF_CORE_READ(sock, __sk_common.skc_daddr));
}

#endif
