/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a frame says of itself, down to the ports: the long way, for what is not ordinary traffic of a socket. Bytes are
 * copied out of the frame, since a hostile one is rarely where direct access would find it.
 */
#ifndef BULKHEAD_BPF_GUARD_PACKET_H
#define BULKHEAD_BPF_GUARD_PACKET_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "bpf/address.h"
#include "bpf/maps.h"

#define BH_IPV4_PLAIN 0x45 /* version 4, no options */

/* <linux/icmp.h> drags in the C library. Types by IANA's names; those of the two protocols do not overlap. */
enum {
    BH_ICMP_ECHO_REPLY = 0,
    BH_ICMP_UNREACHABLE = 3,
    BH_ICMP_SOURCE_QUENCH = 4,
    BH_ICMP_REDIRECT = 5,
    BH_ICMP_ECHO = 8,
    BH_ICMP_TIME_EXCEEDED = 11,
    BH_ICMP_PARAMETER_PROBLEM = 12,
    BH_ICMP_TIMESTAMP = 13,
    BH_ICMP_TIMESTAMP_REPLY = 14,
    BH_ICMP_ADDRESS_MASK = 17,
    BH_ICMP_ADDRESS_MASK_REPLY = 18,
    BH_ICMP_EXTENDED_ECHO = 42,
    BH_ICMP_EXTENDED_ECHO_REPLY = 43,
    BH_ICMPV6_TOO_BIG = 2,
    BH_ICMPV6_ECHO = 128,
    BH_ICMPV6_ECHO_REPLY = 129,
    BH_ICMPV6_MLD_QUERY = 130,
    BH_ICMPV6_MLD_DONE = 132,
    BH_ICMPV6_ROUTER_SOLICITATION = 133,
    BH_ICMPV6_NEIGHBOUR_SOLICITATION = 135,
    BH_ICMPV6_NEIGHBOUR_ADVERTISEMENT = 136,
    BH_ICMPV6_REDIRECT = 137,
    BH_ICMPV6_MLDV2_REPORT = 143,
    BH_ICMPV6_EXTENDED_ECHO = 160,
    BH_ICMPV6_EXTENDED_ECHO_REPLY = 161,
};
#define BH_ICMP_FRAGMENTATION_NEEDED 4 /* code of BH_ICMP_UNREACHABLE */

/* Of the kernel's if_packet.h and if_ether.h, by the names there. */
#define BH_PACKET_HOST 0
#define BH_PACKET_OTHERHOST 3
#define BH_PACKET_LOOPBACK 5 /* what was sent to many, given to the sender's own */

#define BH_DHCP_SERVER 67 /* ports, RFC 2131 */
#define BH_DHCP_CLIENT 68

#define BH_VLAN_TAGS 2         /* 802.1Q within 802.1ad */
#define BH_EXTENSION_HEADERS 8 /* RFC 8200 knows six; more is an attack or a mistake */
#define BH_OPTION_BYTES 40     /* RFC 791, section 3.1: 15 words less the fixed 5 */
#define BH_OPTION_END 0
#define BH_OPTION_NOP 1
#define BH_OPTION_LSRR 131
#define BH_OPTION_SSRR 137

#define BH_FRAGMENT_OFFSET 0x1fff
#define BH_MORE_FRAGMENTS 0x2000

enum bh_frame_kind {
    BH_FRAME_IP = 0,
    BH_FRAME_ARP = 1,
    BH_FRAME_OTHER = 2,     /* no protocol of the internet */
    BH_FRAME_MALFORMED = 3, /* truncated, contradictory, or too deeply nested */
};

struct bh_packet {
    struct bh_address source, destination;
    __u16 source_port, destination_port; /* TCP, UDP; of an ICMP echo the identifier is the source port */
    __u16 ether_type;
    __u8 kind;     /* enum bh_frame_kind */
    __u8 protocol; /* of the first header that is no extension header */
    __u8 icmp_type, icmp_code;
    __u8 tcp_flags; /* the byte with SYN, RST, ACK, FIN */
    __u8 hop_limit;
    __u8 source_routed;
    __u8 headless; /* a fragment that is not the first: no transport header */
    __u8 fragmented;
    __u8 fragment_protocol; /* as each fragment has it: of IPv6, the first header in the pieces */
    __u8 has_route;         /* a routing header, also one at whose end it is */
    __u8 pad;
    __u32 identification; /* of the fragments */
    __u32 tcp_sequence;
    __u32 transport; /* offset of the transport header; of what is no IP, of what comes after the link header */
};

#define BH_TCP_FIN 0x01
#define BH_TCP_SYN 0x02
#define BH_TCP_RST 0x04
#define BH_TCP_ACK 0x10

static __always_inline int bh_is_opening_segment(const struct bh_packet* packet)
{
    return packet->protocol == IPPROTO_TCP && (packet->tcp_flags & (BH_TCP_SYN | BH_TCP_ACK)) == BH_TCP_SYN;
}

#define BH_OPTIONS_END 0
#define BH_OPTIONS_ROUTE 256

/*
 * How far it is from an option of an IPv4 header to the next, by its first two bytes. Not static: verified once, not
 * for each of forty; given no pointer, which before Linux 5.12 would undo that.
 */
__noinline __u32 bh_option_size(__u32 kind, __u32 size)
{
    if (kind == BH_OPTION_LSRR || kind == BH_OPTION_SSRR)
        return BH_OPTIONS_ROUTE;
    if (kind == BH_OPTION_END)
        return BH_OPTIONS_END;
    if (kind == BH_OPTION_NOP)
        return 1;
    return size < 2 ? BH_OPTIONS_END : size; /* the kernel drops it (ip_options_compile) */
}

/* A second fragment that begins within the TCP header could change what the first one said of it (RFC 3128). */
static __always_inline int bh_hides_tcp_flags(__u8 protocol, __u16 offset)
{
    return protocol == IPPROTO_TCP && offset == 1; /* in units of 8 bytes */
}

static __always_inline int bh_is_extension(__u8 header)
{
    return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING || header == IPPROTO_FRAGMENT ||
           header == IPPROTO_DSTOPTS;
}

#define BH_FRAME struct __sk_buff
#define BH_LOAD_BYTES bpf_skb_load_bytes
#define BH_READER(name) name
#include "bpf/guard/read_packet.h"

/*
 * The packet that an ICMP error is about: its addresses and ports as they were when it left, so that its source is this
 * end. False when it cannot be read. `at`: its IP header.
 */
static __always_inline int bh_read_quoted(struct __sk_buff* skb, struct bh_packet* quoted, __u32 at, int v4)
{
    __builtin_memset(quoted, 0, sizeof(*quoted));
    if (v4 ? bh_read_ipv4(skb, quoted, at) : bh_read_ipv6(skb, quoted, at))
        return 0;
    if (quoted->headless)
        return 1;
    __u8 head[8] = {}; /* an error quotes no more of the transport header (RFC 792) */
    if (bpf_skb_load_bytes(skb, quoted->transport, head, sizeof(head)))
        return 0;
    if (quoted->protocol == IPPROTO_ICMP || quoted->protocol == IPPROTO_ICMPV6) {
        quoted->icmp_type = head[0];
        quoted->source_port = (__u16)(head[4] << 8 | head[5]);
    } else if (quoted->protocol == IPPROTO_TCP || quoted->protocol == IPPROTO_UDP) {
        quoted->source_port = (__u16)(head[0] << 8 | head[1]);
        quoted->destination_port = (__u16)(head[2] << 8 | head[3]);
    }
    return 1;
}

/* Link-layer protocols of daemons that keep a link up: 802.1X, LLDP, slow protocols (LACP). */
static __always_inline int bh_is_link_protocol(__u16 ether_type)
{
    return ether_type == 0x888e || ether_type == 0x88cc || ether_type == 0x8809;
}

static __always_inline int bh_keeps_the_link_up(const struct bh_packet* packet)
{
    return packet->kind == BH_FRAME_ARP || (packet->kind == BH_FRAME_OTHER && bh_is_link_protocol(packet->ether_type));
}

static __always_inline int bh_is_multicast(const struct bh_address* address)
{
    const __u32* word = bh_const_words(address);
    if (bh_is_v4(address))
        return (word[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || word[3] == 0xffffffff; /* for all */
    return (word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

#endif
