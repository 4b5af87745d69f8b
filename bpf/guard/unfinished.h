/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What of a packet may change after it was judged: bytes in pages that its sender can write to, and a checksum that is
 * still to be written. */
#ifndef BULKHEAD_BPF_GUARD_UNFINISHED_H
#define BULKHEAD_BPF_GUARD_UNFINISHED_H

#include "bpf/guard/packet.h"
#include "bpf/socket.h"

static __always_inline const struct sk_buff* bh_kernel_packet(struct __sk_buff* skb)
{
    const struct sk_buff* packet = NULL; /* as in bh_kernel_socket() */
    bpf_probe_read_kernel(&packet, sizeof(packet), &skb);
    return packet;
}

#define BH_READ_AT_FIRST 512    /* bytes: a frame's headers, and what an ICMP error quotes */
#define BH_READ_OF_TRANSPORT 96 /* of an ICMP error, also the headers that it quotes */

/* In the packet's own memory. */
static __always_inline __u32 bh_linear_bytes(struct __sk_buff* skb)
{
    return (__u32)((long)skb->data_end - (long)skb->data);
}

/*
 * Of a packet socket's ring (PACKET_TX_RING) all but the link header is in the user's pages (tpacket_fill_skb), also
 * when it has been routed by another namespace since. Takes what is read of it into the packet's own memory, for good.
 * Not of what is to be cut into several packets: where it is cut depends on what is where (skb_segment), and the kernel
 * has its headers in the packet's own memory. Negative: it could not be. Not static: called with the context alone.
 */
__noinline int bh_make_private(struct __sk_buff* skb)
{
    __u32 bytes = BH_READ_AT_FIRST;
    if (bytes > skb->len)
        bytes = skb->len;
    if (skb->gso_size || bh_linear_bytes(skb) >= bytes)
        return 0;
    return bpf_skb_pull_data(skb, bytes) ? -1 : 1;
}

/* What was read of it. */
static __always_inline int bh_is_private(struct __sk_buff* skb, const struct bh_packet* packet)
{
    __u32 bytes = packet->transport + (skb->gso_size ? packet->protocol == IPPROTO_TCP ? 14 : 8 : BH_READ_OF_TRANSPORT);
    if (packet->kind == BH_FRAME_MALFORMED)
        return 1;
    if (bytes > skb->len)
        bytes = skb->len;
    return bh_linear_bytes(skb) >= bytes;
}

#define BH_TYPE_IN_ETHERNET 12

/*
 * Of what is to be cut into several packets (its sender says so, in a virtio header). It is cut as what the skb says it
 * is (skb_mac_gso_segment), which a packet socket says as it likes: as NSH, or in a VLAN, something else than was read
 * is rewritten. And each piece of a datagram gets a place in it (inet_gso_segment, udp6_ufo_fragment): a later
 * fragment, which has no ports, becomes a first one. What is put together is no fragment, and what is received is none
 * that was.
 */
static __always_inline int bh_is_cut_as_read(struct __sk_buff* skb, const struct bh_packet* packet, __u32 link)
{
    __u16 type = bpf_htons(packet->ether_type);
    if (packet->kind != BH_FRAME_IP)
        return 1; /* malformed already, or no frame that carries IP to its receiver */
    if (link == ETH_HLEN && bpf_skb_load_bytes(skb, BH_TYPE_IN_ETHERNET, &type, sizeof(type)))
        return 0;
    return skb->protocol == type && !packet->fragmented;
}

#define BH_CHECKSUM_PARTIAL 3 /* include/linux/skbuff.h */
#define BH_NO_CHECKSUM (-1)

/* Where in the frame the checksum is written as it is sent, by the device or before it: the sender of a packet socket
 * or a machine (virtio) says where. */
static __always_inline int bh_place_of_checksum(struct __sk_buff* skb)
{
    const struct sk_buff* packet = bh_kernel_packet(skb);
    if (BPF_CORE_READ_BITFIELD_PROBED(packet, ip_summed) != BH_CHECKSUM_PARTIAL)
        return BH_NO_CHECKSUM;
    long at = (long)(BPF_CORE_READ(packet, head) - BPF_CORE_READ(packet, data));
    at += (__u32)BPF_CORE_READ(packet, csum_start) + BPF_CORE_READ(packet, csum_offset);
    return at < 0 ? 0 : (int)at;
}

/* It is where a checksum of this packet is, or in what is not judged: the data, the packet within a tunnel's. */
static __always_inline int bh_checksum_is_in_place(const struct bh_packet* packet, int at)
{
    __u32 within = (__u32)at - packet->transport;
    if (at == BH_NO_CHECKSUM)
        return 1;
    if (packet->kind == BH_FRAME_ARP || packet->kind == BH_FRAME_OTHER) /* its payload is another's frame */
        return (__u32)at >= packet->transport && !bh_keeps_the_link_up(packet);
    if ((__u32)at < packet->transport)
        return 0;
    if (packet->headless)
        return 1;
    switch (packet->protocol) {
    case IPPROTO_TCP: return within == 16;
    case IPPROTO_UDP: return within >= 6;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6: return within == 2;
    default: return 1;
    }
}

#endif
