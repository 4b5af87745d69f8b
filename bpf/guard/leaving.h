/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The guard's outer side: what leaves by an interface and passed no door. */
#ifndef BULKHEAD_BPF_GUARD_LEAVING_H
#define BULKHEAD_BPF_GUARD_LEAVING_H

#include "bpf/context.h"
#include "bpf/guard/forwarded.h"
#include "bpf/guard/ordinary.h"
#include "bpf/guard/quarantine.h"

/* Of the socket, in the initial user namespace (bpf_get_socket_uid() answers in that of the socket's network
 * namespace). */
static __always_inline __u32 bh_user_of_sender(struct __sk_buff* skb)
{
    struct bpf_sock* socket = skb->sk;
    socket = socket ? bpf_sk_fullsock(socket) : NULL;
    if (!socket)
        return (__u32)-1;
    const struct sock* sock = bh_kernel_socket(socket);
    return BPF_CORE_READ(sock, sk_uid.val);
}

/*
 * Who sends: the task that runs, if it is of the socket's cgroup. A packet that waited in a queue (for a neighbour, for
 * its turn) is sent by whoever runs then, or on the back of whom an interrupt met; nobody is named for it, and only
 * what is said of any process holds.
 */
__noinline int bh_identify_sender(struct __sk_buff* skb)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return 0;
    struct bh_subject* subject = &work->subject;
    bh_read_current(subject);
    if (subject->cgroup_id != bpf_skb_cgroup_id(skb) || !bh_runs_for_current()) {
        subject->pid = subject->tid = 0;
        subject->exe_inode = 0;
        subject->exe_device = 0;
        subject->comm[0] = 0;
        subject->uid = bh_user_of_sender(skb);
        subject->cgroup_id = bpf_skb_cgroup_id(skb);
        return 0;
    }
    if (!bh_planes_look_at_processes(work->question.control))
        return 0;
    bh_read_cgroups_of_current(&work->cgroups);
    bh_classes_of_stored(bh_leading_slot(work->question.control), subject, &work->cgroups, &work->question.classes);
    work->by_process = 1;
    return 0;
}

static __always_inline int bh_sender_is_in_scope(struct __sk_buff* skb)
{
    return scope_is_root || bpf_skb_ancestor_cgroup_id(skb, scope_level) == scope_cgroup;
}

#define BH_ETH_P_TIPC 0x88ca
#define BH_ETHERNET_LEAST 60  /* without its checksum (IEEE 802.3) */
#define BH_ETHERNET_PADDING 6 /* what IPv4 and TCP without options lack to that */

/* What a packet is compared with: the socket that it is of. */
struct bh_sender {
    __u32 family, protocol, type, port;
    __u32 is_kernel; /* made by the kernel for itself, and no connection (NFS, MPTCP: for somebody) */
    __u32 binds_anywhere, was_corked;
    __u32 may_not_begin; /* flags that its segments may not have */
    __u32 netns;
    __u16 remote_port;            /* 0: not connected */
    const struct bh_asked* asked; /* NULL: nothing */
    struct bh_address remote;
};
static __noinline int bh_judge_frame(struct bh_guard_work* work, const struct bh_sender* sender)
{
    const struct bh_packet* packet = &work->packet;
    if (bh_keeps_the_link_up(packet))
        return BH_GUARD_PASS;
    if (packet->kind == BH_FRAME_OTHER) {
        /*
         * PPPoE, MACsec, MPLS leave the inner packet's socket on the frame; that was judged on its own device. Sockets
         * of other families make such frames themselves, some of them anybody's (AF_PPPOX).
         */
        if (sender->family == BH_AF_INET || sender->family == BH_AF_INET6)
            return BH_GUARD_PASS;
        work->headless = 1;
        return bh_refuse_packet(BH_OUTBOUND);
    }
    /* Also by a route at whose end it is: the door was asked about another address (ip6_datagram_send_ctl). */
    if (packet->kind == BH_FRAME_MALFORMED || packet->source_routed || packet->has_route)
        return bh_refuse_packet(BH_OUTBOUND);
    if (bh_is_link_control_by_hand(packet))
        return BH_GUARD_PASS;
    /* No address yet: DHCP (RFC 2131), duplicate address detection. */
    if (!bh_is_own_source(&packet->source, sender->netns) && !bh_is_unspecified(&packet->source))
        return bh_refuse_packet(BH_OUTBOUND);
    return bh_judge_packet(BH_OUTBOUND);
}

/* A connection that a transparent proxy has accepted goes on from the address that it was meant for. */
static __always_inline int bh_begins(const struct bh_packet* packet)
{
    return packet->protocol != IPPROTO_TCP || (packet->tcp_flags & BH_TCP_SYN);
}

/* sendto(2) on a socket that is or was connected: the door was asked about it, and the conversation is known.
 */
static __noinline int bh_is_known_conversation(const struct bh_packet* packet, const struct bh_sender* sender)
{
    struct bh_udp_flow_key key = {.remote = packet->destination,
                                  .remote_port = packet->destination_port,
                                  .local_port = packet->source_port,
                                  .netns = sender->netns};
    __u64 now = bpf_ktime_get_ns();
    const struct bh_udp_flow* asked = bh_live_udp_flow(&key, BH_OUTBOUND, now);
    if (asked && !asked->within)
        return 1;
    /* Heard of by a process: one is begun by errors, too, that speak of what was sent (udpv6_err). */
    const struct bh_udp_flow* heard = bh_live_udp_flow(&key, BH_INBOUND, now);
    return heard && !heard->within && bh_udp_flow_may_be_answered(heard);
}

static __always_inline int bh_connection_goes_where_it_was_sent(const struct bh_packet* packet,
                                                                const struct bh_sender* sender)
{
    if (sender->asked && sender->asked->to_own)
        return 0;
    if (sender->remote_port == 0)
        return 1;
    /* Whoever administers another namespace may have sent the answers of a connection elsewhere than it came from. */
    if (sender->netns == guarded_netns && (packet->headless || !bh_begins(packet)))
        return 1;
    return bh_is_same(&packet->destination, &sender->remote) &&
           (packet->headless || packet->destination_port == sender->remote_port);
}

/* False: something (a rule of netfilter's, another peer's port) sends it elsewhere than the door was asked about. */
static __always_inline int bh_goes_where_it_was_sent(const struct bh_packet* packet, const struct bh_sender* sender)
{
    if (packet->protocol == IPPROTO_TCP)
        return bh_connection_goes_where_it_was_sent(packet, sender);
    /* The policy may have changed since; what it denied when it did is no conversation any more. */
    if (sender->was_corked && sender->remote_port == 0 && !packet->headless)
        return bh_is_known_conversation(packet, sender);
    if (packet->headless)
        return !sender->asked || sender->remote_port == 0 || bh_is_asked_peer(sender->asked, &packet->destination, 0);
    if (sender->asked ? bh_is_asked_peer(sender->asked, &packet->destination, packet->destination_port)
                      : sender->remote_port == 0 || (packet->destination_port == sender->remote_port &&
                                                     bh_is_same(&packet->destination, &sender->remote)))
        return 1;
    return bh_is_known_conversation(packet, sender);
}

/* With options or extension headers, from a socket that may bind anywhere and did not, or with sendto(2). */
static __always_inline int bh_is_ordinary_after_all(const struct bh_packet* packet, const struct bh_sender* sender)
{
    if (packet->kind != BH_FRAME_IP || packet->source_routed || packet->has_route ||
        packet->protocol != sender->protocol || (packet->tcp_flags & sender->may_not_begin) ||
        bh_stays_in(&packet->destination, sender->netns) || (!packet->headless && packet->source_port != sender->port))
        return 0;
    if (sender->binds_anywhere && bh_begins(packet) && !bh_is_own_source(&packet->source, sender->netns))
        return 0;
    if (!bh_goes_where_it_was_sent(packet, sender))
        return 0;
    return (sender->protocol == IPPROTO_TCP && sender->type == BH_SOCK_STREAM) ||
           (sender->protocol == IPPROTO_UDP && sender->type == BH_SOCK_DGRAM);
}

/* A raw or packet socket, or a packet that another one was wrapped into. */
static __noinline int bh_sent_by_socket(struct __sk_buff* skb, const struct bh_sender* sender,
                                        struct bh_guard_work* work)
{
    if (!bh_sender_is_in_scope(skb))
        return BH_GUARD_PASS;
    if (bh_is_ordinary_after_all(&work->packet, sender)) {
        bh_expect_fragments(work);
        return BH_GUARD_PASS;
    }
    bh_identify_sender(skb);
    bh_take_as_first(work);
    return bh_judge_frame(work, sender);
}

/* The verdict that an answer of the kernel would betray: the attempt of the packet that it answers. */
static __noinline int bh_answers_refused_attempt(struct bh_guard_work* work, struct bh_address* remote, __u16 port,
                                                 __u8 protocol)
{
    work->question.remote = *remote;
    work->question.port = port;
    work->question.protocol = protocol;
    work->question.direction = BH_INBOUND;
    work->question.port_unknown = 0;
    bh_only_any_process(&work->question.classes);
    bh_judge(&work->question, &work->answer);
    return work->answer.verdict == BH_DENIED;
}

static __always_inline int bh_is_unwanted_answer(struct __sk_buff* skb, struct bh_guard_work* work)
{
    struct bh_packet* packet = &work->packet;
    if (!refuse_silently || packet->kind != BH_FRAME_IP)
        return 0;
    /* The reset that answers a SYN has no sequence number of its own (RFC 9293, 3.10.7.1); others end connections. */
    if (packet->protocol == IPPROTO_TCP)
        return (packet->tcp_flags & BH_TCP_RST) && (packet->tcp_flags & BH_TCP_ACK) && packet->tcp_sequence == 0 &&
               bh_answers_refused_attempt(work, &packet->destination, packet->source_port, IPPROTO_TCP);
    if (!bh_is_icmp_error(packet))
        return 0;
    if (!bh_read_quoted(skb, &work->quoted, packet->transport + 8, packet->protocol == IPPROTO_ICMP) ||
        work->quoted.protocol != IPPROTO_UDP)
        return 0;
    return bh_answers_refused_attempt(work, &packet->destination, work->quoted.destination_port, IPPROTO_UDP);
}

/* A segment with data. Where its header cannot be read, it has; what fills up an Ethernet frame is none. */
static __always_inline int bh_carries_data(struct __sk_buff* skb, const struct bh_packet* packet)
{
    __u8 words;
    if (bpf_skb_load_bytes(skb, packet->transport + offsetof(struct tcphdr, ack_seq) + 4, &words, sizeof(words)))
        return 1;
    __u32 padding = skb->len <= BH_ETHERNET_LEAST ? BH_ETHERNET_PADDING : 0;
    return skb->len > packet->transport + (words >> 4) * 4u + padding;
}

/* What the kernel says without a socket carries nothing of anybody's; its errors have a socket of its own. */
static __always_inline int bh_says_little(struct __sk_buff* skb, const struct bh_packet* packet)
{
    return packet->protocol == IPPROTO_TCP && !packet->headless && !bh_carries_data(skb, packet);
}

/*
 * No socket at all: the kernel's resets and other segments without data (of IPv6 also those of connections that are no
 * full socket, before Linux 6.13); what a bridge or bond sends by several ports; or a copy, of which nobody knows whose
 * the first was (nft dup, tc).
 */
static __always_inline int bh_may_be_a_copy(struct __sk_buff* skb, const struct bh_packet* packet)
{
    if (skb->sk || packet->headless)
        return skb->sk == NULL;
    if (packet->protocol == IPPROTO_TCP)
        return (bh_is_opening_segment(packet) || bh_carries_data(skb, packet)) &&
               !bh_has_tcp_socket(skb, packet, bh_is_v4(&packet->source));
    return !bh_is_link_control(packet) && !(bh_is_icmp_error(packet) && bh_error_is_awaited(skb));
}

/*
 * The kernel's own: resets, answers of connections that are no full socket (yet, any more), answers to pings, errors,
 * neighbour discovery. What is none of these is a tunnel's, and judged.
 */
__noinline int bh_sent_by_kernel(struct __sk_buff* skb)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_GUARD_PASS;
    const struct bh_packet* packet = &work->packet;
    /* TIPC has sockets that pass no door, and anybody may let it use an interface (tipc_nl_bearer_enable). */
    if (packet->kind == BH_FRAME_OTHER && packet->ether_type == BH_ETH_P_TIPC && guard_namespace) {
        bh_take_as_first(work);
        work->headless = 1;
        return bh_refuse_packet(BH_OUTBOUND);
    }
    if (packet->kind == BH_FRAME_ARP || packet->kind == BH_FRAME_OTHER)
        return BH_GUARD_PASS;
    if (bh_is_unwanted_answer(skb, work))
        return BH_GUARD_DROP;
    if (!guard_namespace)
        return BH_GUARD_PASS;
    if ((packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6 ||
         packet->protocol == IPPROTO_IGMP) &&
        !bh_may_be_a_copy(skb, packet))
        return BH_GUARD_PASS;
    bh_take_as_first(work);
    if (packet->kind == BH_FRAME_MALFORMED)
        return bh_refuse_packet(BH_OUTBOUND);
    /* Of a machine's connection (macvtap), which the guard has not seen begin. Ours have sockets, and the failsafes. */
    if (packet->protocol == IPPROTO_TCP && !packet->headless && !bh_is_opening_segment(packet) &&
        !(bh_own_address(&packet->source) & BH_OWN_UNICAST) && bh_passes_without_state(BH_OUTBOUND, 1) &&
        work->answer.reason != BH_REASON_FAILSAFE)
        return BH_GUARD_PASS;
    return bh_judge_packet(BH_OUTBOUND);
}

static __noinline int bh_socket_leaves_quarantine(struct __sk_buff* skb, const struct bh_sender* sender,
                                                  struct bh_guard_work* work)
{
    const struct bh_packet* packet = &work->packet;
    if (!guard_namespace && !bh_sender_is_in_scope(skb))
        return BH_GUARD_PASS;
    if (sender->is_kernel || bh_is_ordinary_after_all(packet, sender))
        return bh_leaves_quarantine(1);
    if (packet->kind == BH_FRAME_IP && !bh_is_own_source(&packet->source, sender->netns) &&
        !bh_is_unspecified(&packet->source)) {
        bh_take_as_first(work);
        return bh_refuse_packet(BH_OUTBOUND);
    }
    return bh_leaves_quarantine(0);
}

static __noinline int bh_leaves_socket(struct __sk_buff* skb, const struct bh_sender* sender, __u32 link)
{
    struct bh_guard_work* work = bh_look(skb, link);
    if (!work)
        return BH_GUARD_PASS;
    if (bh_is_quarantined())
        return bh_socket_leaves_quarantine(skb, sender, work);
    if (skb->ingress_ifindex) /* bridged from a tap device, whose socket it still has */
        return bh_forwarded(skb, 1);
    return sender->is_kernel ? bh_sent_by_kernel(skb) : bh_sent_by_socket(skb, sender, work);
}

static __noinline int bh_leaves_no_socket(struct __sk_buff* skb, __u32 link)
{
    if (!bh_is_quarantined() && bh_passes_as_judged(skb)) {
        bh_note_translated(skb, link);
        return BH_GUARD_PASS;
    }
    struct bh_guard_work* work = bh_look(skb, link);
    if (!work)
        return BH_GUARD_PASS;
    if (bh_is_quarantined() && guard_namespace)
        return bh_leaves_quarantine(skb->sk || (!skb->ingress_ifindex && bh_says_little(skb, &work->packet)));
    /* Connections that are no full socket yet, or any more, are the kernel's. */
    if (!skb->sk && skb->ingress_ifindex)
        return bh_forwarded(skb, 1);
    return bh_sent_by_kernel(skb);
}

static __always_inline int bh_leaves(struct __sk_buff* skb, __u32 link)
{
    struct bpf_sock* socket = skb->sk;
    if (!socket)
        return bh_leaves_no_socket(skb, link);
    if (bh_is_own_packet(skb, socket, link) && !bh_is_quarantined())
        return BH_GUARD_PASS;
    socket = bpf_sk_fullsock(socket);
    if (!socket) {
        /* The kernel's words for a connection that is no socket yet, or any more: two of every short connection's. */
        if (bh_is_plain_tcp(skb, link) && !refuse_silently && !bh_is_quarantined())
            return BH_GUARD_PASS;
        return bh_leaves_no_socket(skb, link);
    }
    struct bh_sender sender = {.family = socket->family,
                               .protocol = socket->protocol,
                               .type = socket->type,
                               .port = socket->src_port,
                               .remote_port = bpf_ntohs((__u16)socket->dst_port)};
    const struct sock* kernel = bh_kernel_socket(socket);
    if (skb->protocol == bpf_htons(ETH_P_IP))
        bh_set_v4(&sender.remote, BPF_CORE_READ(kernel, __sk_common.skc_daddr)); /* also of an IPv6 socket */
    else
        bh_remote_address_of(kernel, &sender.remote);
    sender.netns = bh_netns_of(kernel);
    sender.binds_anywhere = bh_source_may_be_forged(socket);
    sender.may_not_begin = bh_calls_though_closed(socket) >> BH_STATE_CLOSED << 1; /* BH_TCP_SYN */
    sender.was_corked = sender.protocol == IPPROTO_UDP && sender.type == BH_SOCK_DGRAM && bh_was_corked(socket);
    sender.asked = bpf_sk_storage_get(&bh_asked_peers, socket, NULL, 0);
    sender.is_kernel = !(sender.protocol == IPPROTO_TCP && sender.type == BH_SOCK_STREAM) &&
                       BPF_CORE_READ_BITFIELD_PROBED(kernel, sk_kern_sock);
    return bh_leaves_socket(skb, &sender, link);
}

#endif
