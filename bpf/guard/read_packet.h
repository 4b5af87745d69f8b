/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Reads a frame into struct bh_packet. Included once for each kind of context that shows frames, which says what that
 * is (BH_FRAME), how bytes are copied out of it (BH_LOAD_BYTES), and by which names its functions go (BH_READER).
 */
#if !defined(BH_FRAME) || !defined(BH_LOAD_BYTES) || !defined(BH_READER)
#error "whoever includes this says what kind of frames are read"
#endif

/*
 * Source routing makes a packet go elsewhere than its destination says (RFC 791, RFC 8200 section 4.4). `words`: 1
 * to 10. The mask changes nothing, but says so to verifiers that learn no lower bound from a comparison (before
 * Linux 6.8).
 */
static __always_inline int BH_READER(bh_has_source_route)(BH_FRAME* frame, __u32 at, __u32 words)
{
    __u8 options[64] = {};
    __u32 length = ((words - 1) & 15) * 4 + 4;
    if (BH_LOAD_BYTES(frame, at, options, length))
        return 1;
    __u32 i = 0;
    for (int n = 0; n < BH_OPTION_BYTES && i < length; n++) {
        __u32 size = bh_option_size(options[i & 63], options[(i + 1) & 63]);
        if (size == BH_OPTIONS_ROUTE)
            return 1;
        if (size == BH_OPTIONS_END)
            break;
        i += size;
    }
    return 0;
}

static __always_inline void BH_READER(bh_read_transport)(BH_FRAME* frame, struct bh_packet* packet)
{
    __u8 head[14] = {};
    if (packet->headless)
        return;
    switch (packet->protocol) {
    case IPPROTO_TCP:
        if (BH_LOAD_BYTES(frame, packet->transport, head, 14)) {
            /* A first fragment too short for the header that filters look at (RFC 1858, RFC 7112), or no packet at all.
             */
            packet->kind = BH_FRAME_MALFORMED;
            return;
        }
        packet->tcp_flags = head[13];
        packet->tcp_sequence = (__u32)head[4] << 24 | (__u32)head[5] << 16 | (__u32)head[6] << 8 | head[7];
        break;
    case IPPROTO_UDP:
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        if (BH_LOAD_BYTES(frame, packet->transport, head, 8)) {
            packet->kind = BH_FRAME_MALFORMED;
            return;
        }
        break;
    default: return;
    }
    if (packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6) {
        packet->icmp_type = head[0];
        packet->icmp_code = head[1];
        packet->source_port = (__u16)(head[4] << 8 | head[5]);
        return;
    }
    packet->source_port = (__u16)(head[0] << 8 | head[1]);
    packet->destination_port = (__u16)(head[2] << 8 | head[3]);
}

/* Not static, as the next: verified once, not again for a packet that is quoted. 0: it is read. */
__noinline int BH_READER(bh_read_ipv4)(BH_FRAME* frame, struct bh_packet* packet, __u32 at)
{
    struct iphdr ip;
    if (!packet || BH_LOAD_BYTES(frame, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
        return -1;
    bh_set_v4(&packet->source, ip.saddr);
    bh_set_v4(&packet->destination, ip.daddr);
    packet->protocol = ip.protocol;
    packet->hop_limit = ip.ttl;
    __u16 fragment = bpf_ntohs(ip.frag_off);
    packet->headless = (fragment & BH_FRAGMENT_OFFSET) != 0;
    packet->fragmented = (fragment & (BH_FRAGMENT_OFFSET | BH_MORE_FRAGMENTS)) != 0;
    packet->identification = ip.id;
    packet->fragment_protocol = ip.protocol;
    if (bh_hides_tcp_flags(ip.protocol, fragment & BH_FRAGMENT_OFFSET))
        return -1;
    packet->transport = at + ip.ihl * 4;
    if (ip.ihl > 5)
        packet->source_routed = BH_READER(bh_has_source_route)(frame, at + sizeof(ip), ip.ihl - 5u);
    return 0;
}

/*
 * Reads the extension header `kind` at `at`: what comes after it, with its length above the lowest 8 bits. Negative: it
 * cannot be read, or hides what it must not. Not static, so that it is verified once, not once for each header.
 */
__noinline int BH_READER(bh_read_extension)(BH_FRAME* frame, struct bh_packet* packet, __u32 at, __u32 kind)
{
    __u8 header[8];
    if (!packet || BH_LOAD_BYTES(frame, at, header, sizeof(header)))
        return -1;
    if (kind == IPPROTO_FRAGMENT) {
        __u16 offset = (__u16)(header[2] << 5 | header[3] >> 3);
        if (bh_hides_tcp_flags(header[0], offset))
            return -1;
        packet->headless = offset != 0;
        packet->fragmented = packet->headless || (header[3] & 1);
        __builtin_memcpy(&packet->identification, header + 4, 4);
        packet->fragment_protocol = header[0];
        return header[0] | 8 << 8;
    }
    if (kind == IPPROTO_ROUTING) {
        packet->has_route = 1;
        if (header[3] > 0)
            packet->source_routed = 1;
    }
    return header[0] | (header[1] + 1) * 8 << 8;
}

__noinline int BH_READER(bh_read_ipv6)(BH_FRAME* frame, struct bh_packet* packet, __u32 at)
{
    struct ipv6hdr ip;
    if (!packet || BH_LOAD_BYTES(frame, at, &ip, sizeof(ip)) || ip.version != 6)
        return -1;
    __builtin_memcpy(&packet->source, &ip.saddr, 16);
    __builtin_memcpy(&packet->destination, &ip.daddr, 16);
    packet->hop_limit = ip.hop_limit;
    __u8 next = ip.nexthdr;
    at += sizeof(ip);
    for (int i = 0; i < BH_EXTENSION_HEADERS; i++) {
        if (!bh_is_extension(next) || packet->headless)
            break;
        int read = BH_READER(bh_read_extension)(frame, packet, at, next);
        if (read < 0)
            return -1;
        next = (__u8)read;
        at += (__u32)read >> 8;
    }
    if (bh_is_extension(next) && !packet->headless)
        return -1;
    packet->protocol = next;
    packet->transport = at;
    return 0;
}

/* `link` bytes of link-layer header: ETH_HLEN, or 0 on devices that carry bare IP. */
static __always_inline int BH_READER(bh_parse_packet)(BH_FRAME* frame, struct bh_packet* packet, __u32 link)
{
    __u16 type;
    __u32 at = link;
    int failed = 0;

    __builtin_memset(packet, 0, sizeof(*packet));
    /* What an skb says of its protocol is what the sender of a packet socket likes it to be; the peer reads the frame.
     */
    __u8 bytes[2];
    if (BH_LOAD_BYTES(frame, link == ETH_HLEN ? ETH_HLEN - sizeof(bytes) : 0, bytes, sizeof(bytes))) {
        packet->kind = BH_FRAME_MALFORMED;
        return 0;
    }
    if (link == ETH_HLEN)
        type = (__u16)(bytes[0] << 8 | bytes[1]);
    else
        type = bytes[0] >> 4 == 4 ? ETH_P_IP : bytes[0] >> 4 == 6 ? ETH_P_IPV6 : 0;
#pragma unroll
    for (int i = 0; i < BH_VLAN_TAGS; i++) {
        __u8 tag[4];
        if (type != ETH_P_8021Q && type != ETH_P_8021AD)
            break;
        if (BH_LOAD_BYTES(frame, at, tag, sizeof(tag))) {
            packet->kind = BH_FRAME_MALFORMED;
            return 0;
        }
        type = (__u16)(tag[2] << 8 | tag[3]);
        at += sizeof(tag);
    }
    packet->ether_type = type;
    if (type == ETH_P_8021Q || type == ETH_P_8021AD) {
        packet->kind = BH_FRAME_MALFORMED; /* a receiver takes off as many tags as there are */
        return 0;
    }
    if (type == ETH_P_IP) {
        failed = BH_READER(bh_read_ipv4)(frame, packet, at);
    } else if (type == ETH_P_IPV6) {
        failed = BH_READER(bh_read_ipv6)(frame, packet, at);
    } else {
        packet->kind = type == ETH_P_ARP ? BH_FRAME_ARP : BH_FRAME_OTHER;
        packet->transport = at;
        return 0;
    }
    if (failed) {
        packet->kind = BH_FRAME_MALFORMED;
        return 0;
    }
    BH_READER(bh_read_transport)(frame, packet);
    return 0;
}

#undef BH_FRAME
#undef BH_LOAD_BYTES
#undef BH_READER
