/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The first test of the guard: TCP and UDP of sockets have their doors, and go. It runs for every packet of every
 * connection, so it is a handful of loads; from Linux 6.6 on no helper is called (a return costs what ten loads do,
 * where the processor has to be guarded against speculation).
 */
#ifndef BULKHEAD_BPF_GUARD_ORDINARY_H
#define BULKHEAD_BPF_GUARD_ORDINARY_H

#include "bpf/asked_peers.h"
#include "bpf/guard/mark.h"
#include "bpf/guard/packet.h"
#include "bpf/loopback.h"
#include "bpf/socket.h"

#define BH_STATE_CLOSED 7
#define BH_IPV4_LOOPBACK 127 /* the first byte of what is on no wire, but by SO_BINDTODEVICE and route_localnet */

static __always_inline int bh_is_quarantined(void)
{
    __u32 zero = 0;
    const struct bh_control* control = bpf_map_lookup_elem(&bh_control, &zero);
    return control && (control->flags & BH_CONTROL_QUARANTINE);
}

/* Of IPv4 the kernel looks at every other socket's source, of IPv6 at where it is bound (net.ipv6.ip_nonlocal_bind). */
static __always_inline int bh_source_may_be_forged(const struct bpf_sock* socket)
{
    return host_binds_anywhere || bh_binds_anywhere(socket);
}

/*
 * What the doors took for the host's own, and let pass, leaves by no interface, unless its sender chose one: for a
 * socket (SO_BINDTODEVICE), or for a datagram (ip(7): IP_PKTINFO, IP_UNICAST_IF). Not static: what comes after it is
 * verified once, not once for each way through it.
 */
__noinline int bh_is_for_ourselves(struct __sk_buff* skb, __u32 link)
{
    struct bh_address destination;
    struct bpf_sock* socket = skb->sk;
    __u32 v4;
    if (!socket)
        return 0;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        if (bpf_skb_load_bytes(skb, link + offsetof(struct iphdr, daddr), &v4, sizeof(v4)))
            return 1;
        bh_set_v4(&destination, v4);
    } else if (bpf_skb_load_bytes(skb, link + offsetof(struct ipv6hdr, daddr), &destination, sizeof(destination))) {
        return 1;
    }
    return bh_stays_in(&destination, bh_netns_of_context_socket(socket));
}

/* The doors may have been asked about it (bh_asked_peers); some other program may keep storage there, too. */
static __always_inline int bh_may_have_asked_peers(struct bpf_sock* socket)
{
    if (bpf_rdonly_cast) {
        const struct sock* sock = bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct sock));
        return sock->sk_bpf_storage != NULL;
    }
    socket = bpf_sk_fullsock(socket);
    return socket && bpf_sk_storage_get(&bh_asked_peers, socket, NULL, 0) != NULL;
}

/*
 * Later segments, too, of whoever administers another namespace: they may be of a connection that began within it
 * (asked where that costs next to nothing), go elsewhere than the socket says, or to what the doors take for its own by
 * now.
 */
static __always_inline int bh_may_be_given_elsewhere(struct __sk_buff* skb, struct bpf_sock* socket, __u32 link,
                                                     __u32 elsewhere, __u32 folded)
{
    if (bpf_rdonly_cast ? bh_netns_of_context_socket(socket) == guarded_netns
                        : (!elsewhere && bh_is_nobodys(folded)) || bh_netns_of_context_socket(socket) == guarded_netns)
        return 0;
    /* A packet keeps its socket also through a veth pair, and may have been judged where it entered this namespace. */
    return (elsewhere && !bh_passes_as_judged(skb)) || (!bh_is_nobodys(folded) && bh_is_for_ourselves(skb, link)) ||
           (bpf_rdonly_cast && bh_may_have_asked_peers(socket));
}

/* A datagram that was put together by several calls (MSG_MORE, UDP_CORK): the door was asked at the first of them. */
static __always_inline int bh_was_corked(const void* socket)
{
    if (bpf_rdonly_cast) {
        const struct udp_sock* udp = bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct udp_sock));
        return udp->pending != 0;
    }
    const struct udp_sock* udp = (const void*)bh_kernel_socket(socket);
    return BPF_CORE_READ(udp, pending) != 0;
}

/* Of a datagram of a socket with storage, whose header can be read. Not static, as bh_is_for_ourselves(). */
__noinline int bh_goes_to_asked_peer(struct __sk_buff* skb, __u32 link)
{
    void* data = (void*)(long)skb->data;
    void* end = (void*)(long)skb->data_end;
    struct bpf_sock* socket = skb->sk;
    struct bh_address address;
    struct udphdr* udp;
    if (!socket || !(socket = bpf_sk_fullsock(socket)))
        return 0;
    const struct bh_asked* asked = bpf_sk_storage_get(&bh_asked_peers, socket, NULL, 0);
    if (!asked)
        return 1;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        struct iphdr* ip = data + (link & 15);
        if ((void*)(ip + 1) > end)
            return 0;
        bh_set_v4(&address, ip->daddr);
        if (ip->frag_off & bpf_htons(BH_FRAGMENT_OFFSET))
            return bh_is_asked_peer(asked, &address, 0);
        udp = (void*)(ip + 1);
    } else {
        struct ipv6hdr* ip = data + (link & 15);
        if ((void*)(ip + 1) > end)
            return 0;
        __builtin_memcpy(&address, &ip->daddr, sizeof(address));
        udp = (void*)(ip + 1);
    }
    return (void*)(udp + 1) <= end && bh_is_asked_peer(asked, &address, bpf_ntohs(udp->dest));
}

/*
 * A call that waits for its first write(2) (TCP_FASTOPEN_CONNECT) is sent, with data, even when the socket has been
 * destroyed since (tcp_sendmsg_fastopen, tcp_abort).
 */
static __always_inline __u32 bh_calls_though_closed(const struct bpf_sock* socket)
{
    return 1u << (socket->state & 31) & 1u << BH_STATE_CLOSED;
}

#define BH_STREAM_OF_TCP (BH_SOCK_STREAM << 16 | IPPROTO_TCP)
#define BH_DATAGRAM_OF_UDP (BH_SOCK_DGRAM << 16 | IPPROTO_UDP)

/* Type and protocol of a full socket; 0: it is none (yet, any more), and what would be there is something else. */
static __always_inline __u32 bh_kind_of(struct bpf_sock* socket)
{
    if (bpf_rdonly_cast) {
        const struct sock* sock = bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct sock));
        if (!(1u << (sock->__sk_common.skc_state & 31) & BH_FULL_STATES))
            return 0;
        return (__u32)sock->sk_type << 16 | sock->sk_protocol;
    }
    socket = bpf_sk_fullsock(socket);
    return socket ? socket->type << 16 | socket->protocol : 0;
}

/*
 * A packet that leaves is its socket's own when it has the socket's protocol and source port. A tunnel keeps the inner
 * packet's socket on the outer one; options and extension headers (source routes) are for the long look.
 */
static __always_inline int bh_is_own_packet(struct __sk_buff* skb, struct bpf_sock* socket, __u32 link)
{
    void* data = (void*)(long)skb->data;
    void* end = (void*)(long)skb->data_end;
    __u32 kind = bh_kind_of(socket);
    __be16 peer_port = socket->dst_port; /* 0: not connected */
    __u32 elsewhere;                     /* netfilter has given it another destination since the door was asked */
    __u32 folded;                        /* the destination (bh_fold_address) */
    void* transport;

    if (kind != BH_STREAM_OF_TCP && kind != BH_DATAGRAM_OF_UDP)
        return 0;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        struct iphdr* ip = data + link;
        if ((void*)(ip + 1) > end || *(__u8*)ip != BH_IPV4_PLAIN || ip->protocol != (__u8)kind ||
            *(__u8*)&ip->daddr == BH_IPV4_LOOPBACK)
            return 0;
        folded = ip->daddr ^ BH_V4_MARK;
        transport = ip + 1;
        if (kind == BH_DATAGRAM_OF_UDP && (ip->frag_off & bpf_htons(BH_FRAGMENT_OFFSET)))
            return (!peer_port || !bh_may_have_asked_peers(socket) || bh_goes_to_asked_peer(skb, link)) &&
                   (bh_is_nobodys(folded) || !bh_is_for_ourselves(skb, link));
        __u32 peer = socket->dst_ip4;
        asm volatile("" : "+r"(peer));
        elsewhere = ip->daddr ^ peer;
    } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
        struct ipv6hdr* ip = data + link;
        if ((void*)(ip + 1) > end || ip->nexthdr != (__u8)kind)
            return 0;
        transport = ip + 1;
        const __u32* to = ip->daddr.in6_u.u6_addr32;
        if (!(to[0] | to[1] | to[2])) /* ::1, on the way out: the door was not asked about this */
            return 0;
        folded = to[0] ^ to[1] ^ to[2] ^ to[3];
        elsewhere = (to[0] ^ socket->dst_ip6[0]) | (to[1] ^ socket->dst_ip6[1]) | (to[2] ^ socket->dst_ip6[2]) |
                    (to[3] ^ socket->dst_ip6[3]);
    } else {
        return 0;
    }
    if (kind == BH_STREAM_OF_TCP) {
        struct tcphdr* tcp = transport;
        if ((void*)(tcp + 1) > end)
            return 0;
        /* Only what begins can be from a forged source, and elsewhere: the rest has the connection's. */
        if (BH_LIKELY(!tcp->syn)) {
            if (bh_may_be_given_elsewhere(skb, socket, link, elsewhere | (tcp->dest ^ peer_port), folded))
                return 0;
            if (BH_LIKELY(!socket->bound_dev_if))
                return 1;
        } else if (elsewhere || tcp->dest != peer_port || bh_source_may_be_forged(socket) ||
                   bh_may_have_asked_peers(socket) || bh_calls_though_closed(socket)) {
            return 0;
        }
        return bh_is_nobodys(folded) || !bh_is_for_ourselves(skb, link);
    }
    struct udphdr* udp = transport;
    if ((void*)(udp + 1) > end || bpf_ntohs(udp->source) != socket->src_port ||
        (peer_port && (elsewhere || udp->dest != peer_port)) || bh_source_may_be_forged(socket) ||
        (!peer_port && bh_was_corked(socket)))
        return 0;
    if (bh_may_have_asked_peers(socket) && !bh_goes_to_asked_peer(skb, link))
        return 0;
    return BH_LIKELY(bh_is_nobodys(folded)) || !bh_is_for_ourselves(skb, link);
}

static __always_inline int bh_is_plain_tcp(struct __sk_buff* skb, __u32 link)
{
    void* data = (void*)(long)skb->data;
    void* end = (void*)(long)skb->data_end;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        struct iphdr* ip = data + link;
        return (void*)(ip + 1) <= end && *(__u8*)ip == BH_IPV4_PLAIN && ip->protocol == IPPROTO_TCP;
    }
    struct ipv6hdr* ip = data + link;
    return skb->protocol == bpf_htons(ETH_P_IPV6) && (void*)(ip + 1) <= end && ip->nexthdr == IPPROTO_TCP;
}

static __always_inline int bh_is_subnet_broadcast(__u32 destination)
{
    int hit = subnet_broadcasts_more;
#pragma unroll
    for (int i = 0; i < BH_SUBNET_BROADCASTS; i++)
        hit |= subnet_broadcasts[i] == destination;
    return hit;
}

/* Where nothing is forwarded, what arrives is for this host or for nobody, and need not be looked up. */
static __always_inline int bh_may_be_for_others(const struct bh_address* destination)
{
    return host_forwards && !(bh_own_address(destination) & BH_OWN_UNICAST);
}

/*
 * What arrives for sk_lookup or an established socket: TCP and UDP to one address, fragments of them too, which are put
 * together before. Not what could come from this host's own addresses (of IPv4 the kernel drops it, but with
 * net.ipv4.conf.*.accept_local or route_localnet), nor datagrams to many, which pass no sk_lookup.
 */
static __always_inline int bh_has_inbound_door(struct __sk_buff* skb, __u32 link)
{
    void* data = (void*)(long)skb->data;
    void* end = (void*)(long)skb->data_end;

    if (skb->pkt_type != BH_PACKET_HOST)
        return 0;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        struct iphdr* ip = data + link;
        if ((void*)(ip + 1) > end || *(__u8*)ip != BH_IPV4_PLAIN || *(__u8*)&ip->saddr == BH_IPV4_LOOPBACK)
            return 0;
        struct bh_address source, destination;
        bh_set_v4(&source, ip->saddr);
        bh_set_v4(&destination, ip->daddr);
        if (BH_UNLIKELY(host_accepts_own) && (bh_own_address(&source) & BH_OWN_UNICAST))
            return 0;
        if (ip->protocol == IPPROTO_TCP)
            return !bh_may_be_for_others(&destination);
        return ip->protocol == IPPROTO_UDP && !bh_may_be_for_others(&destination) &&
               bpf_ntohl(ip->daddr) - 1 < 0xe0000000 - 1 && !bh_is_subnet_broadcast(ip->daddr);
    }
    if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
        struct ipv6hdr* ip = data + link;
        if ((void*)(ip + 1) > end)
            return 0;
        if (ip->nexthdr == IPPROTO_TCP) {
            struct tcphdr* tcp = (void*)(ip + 1);
            struct bh_address destination;
            __builtin_memcpy(&destination, &ip->daddr, sizeof(destination));
            return (void*)(tcp + 1) <= end && !(tcp->syn && !tcp->ack) && !bh_may_be_for_others(&destination);
        }
    }
    return 0;
}

#endif
