/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The inbound door's question at the socket itself, in network namespaces in which no door stands: from the first
 * packet on that a socket of the cgroup is given there, whether or not the agent knows of the namespace, or runs. The
 * kernel asks for every packet of every socket of the cgroup, so this is attached where packets may come to such
 * namespaces past the guard, or by the admin's wish (docs/life-of-a-connection.md).
 */
#include "bpf/arrivals.h"
#include "bpf/guard/judge.h"

#define BH_LOOPBACK_INDEX 1 /* of lo, in each namespace: LOOPBACK_IFINDEX in include/net/flow.h */

enum { BH_SOCKET_REFUSES = 0, BH_SOCKET_TAKES = 1 };

/* It listens or hears from anybody, so that the inbound door would have been asked about it. */
static __always_inline int bh_hears_anybody(const struct bpf_sock* socket)
{
    if (socket->protocol == IPPROTO_TCP)
        return socket->type == BH_SOCK_STREAM && socket->state == BPF_TCP_LISTEN;
    return socket->protocol == IPPROTO_UDP && socket->type == BH_SOCK_DGRAM && socket->state != BPF_TCP_ESTABLISHED;
}

static __always_inline void bh_bound_address_of(const struct bpf_sock* socket, struct bh_address* address)
{
    if (socket->family == BH_AF_INET) {
        bh_set_v4(address, socket->src_ip4);
        BH_KEEP_BRANCHES_APART();
        return;
    }
    bh_set_v6(address, socket->src_ip6[0], socket->src_ip6[1], socket->src_ip6[2], socket->src_ip6[3]);
}

/* No inbound door is asked about multicast and limited broadcast, nor about what a namespace sends to its own broadcast
 * address and hears itself. Of TCP there is none (tcp_v4_rcv,
 * tcp_v6_conn_request). */
static __always_inline int bh_is_for_a_group(const struct bpf_sock* socket, const struct bh_address* destination)
{
    const __u32* word = bh_const_words(destination);
    if (socket->protocol != IPPROTO_UDP)
        return 0;
    if (bh_is_v4(destination))
        return (word[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || word[3] == 0xffffffff;
    return bh_is_multicast(destination);
}

/*
 * Of the packet that is looked at and came by lo. Addresses may be of a namespace before that had the number, and of
 * one that nobody has asked none are known; but what comes from the address that it goes to is from where the kernel
 * chose (fib_result_prefsrc). From another it may be from whatever address its sender likes (IPV6_FREEBIND), but there
 * is no connection in a peer's name with a loopback address: a sidecar's (REDIRECT) come so from the namespace's own.
 * Not static, and without pointers: verified once, also before Linux 5.12.
 */
__noinline int bh_loopback_by_lo(__u32 netns)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_LOOPBACK_NONE;
    struct bh_address source = work->packet.source;
    BH_KEEP_COPY(&source);
    int loopback = bh_loopback_of(&source, netns);
    if (loopback == BH_LOOPBACK_NONE &&
        (bh_is_same(&source, &work->packet.destination) ||
         (work->packet.protocol == IPPROTO_TCP && bh_is_loopback(&work->packet.destination))))
        return BH_LOOPBACK_OWN;
    return loopback;
}

/*
 * The inbound door's verdict about a packet and the socket that it reaches. Protocol and port are the socket's: it may
 * be given what was sent to another port (a transparent proxy), or within UDP to a tunnel's (fou_udp_recv).
 */
static __always_inline int bh_may_reach(struct __sk_buff* skb, const struct bpf_sock* socket, __u32 netns)
{
    struct bh_guard_work* work = bh_begin_work();
    if (!work || bh_nothing_in_force(work->question.control))
        return BH_SOCKET_TAKES;
    bh_read_packet(skb, 0); /* data begins with the IP header here */
    const struct bh_packet* packet = &work->packet;
    if (packet->kind != BH_FRAME_IP) { /* nested deeper than is looked */
        bh_take_as_first(work);
        return bh_refuse_packet(BH_INBOUND) == BH_GUARD_DROP ? BH_SOCKET_REFUSES : BH_SOCKET_TAKES;
    }
    if (skb->pkt_type == BH_PACKET_LOOPBACK || bh_is_for_a_group(socket, &packet->destination))
        return BH_SOCKET_TAKES;
    int as_sent = packet->protocol == socket->protocol;
    struct bh_address bound;
    struct bh_arrival arrival = {.netns = netns};
    bh_bound_address_of(socket, &bound);
    arrival.question.remote = packet->source;
    arrival.question.port = (__u16)socket->src_port;
    arrival.question.protocol = (__u8)socket->protocol;
    arrival.question.direction = BH_INBOUND;
    arrival.local = packet->destination;
    arrival.by_wire = skb->ifindex != BH_LOOPBACK_INDEX;
    arrival.remote_port = as_sent ? packet->source_port : 0;
    struct {
        __u32 stays, again, loopback;
    } how = {};
    how.stays = !arrival.by_wire;
    how.again = as_sent && packet->protocol == IPPROTO_TCP && !bh_is_opening_segment(packet);
    if (!arrival.by_wire)
        how.loopback = (__u32)bh_loopback_by_lo(netns);
    bh_forget_values(&how, sizeof(how));
    struct bh_reached reached = {.bound = &bound,
                                 .is_ours = 1,
                                 .stays = (int)how.stays,
                                 .again = (int)how.again,
                                 .loopback = (__u8)how.loopback};
    bh_forget_values(&bound, sizeof(bound));
    bh_forget_values(&arrival, sizeof(arrival));
    return bh_arrival_verdict(&arrival, reached) == SK_PASS ? BH_SOCKET_TAKES : BH_SOCKET_REFUSES;
}

SEC("cgroup_skb/ingress")
int bh_ingress(struct __sk_buff* skb)
{
    struct bpf_sock* socket = skb->sk;
    if (!socket)
        return BH_SOCKET_TAKES;
    __u32 netns = bh_netns_of_context_socket(socket);
    if (BH_LIKELY(netns == guarded_netns) || bh_has_inbound_door_in(netns, bh_kernel_socket(socket)))
        return BH_SOCKET_TAKES;
    socket = bpf_sk_fullsock(socket);
    if (!socket || !bh_hears_anybody(socket))
        return BH_SOCKET_TAKES;
    return bh_may_reach(skb, socket, netns);
}
