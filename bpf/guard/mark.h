/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The guard's own mark on a packet that passes through this host, and when it is believed. */
#ifndef BULKHEAD_BPF_GUARD_MARK_H
#define BULKHEAD_BPF_GUARD_MARK_H

#include "bpf/guard/unfinished.h"

/*
 * Left on a packet (tc_index) that was let pass where it entered. Whoever administers another namespace can leave the
 * same there (the class of a filter, tc_run() in net/core/dev.c; programs) and have the packet pass by the hook that
 * takes it off (tc_skip_classify, which a device of type ifb sets, goes through a veth pair). So it is a number that he
 * does not know: another one every two seconds, since of 65,535 one is found by trying, and taken off before he can
 * read it. And it says nothing on what comes from outside, nor on what another namespace has routed, or bridged,
 * to an interface of its own that stands on one of this namespace's.
 */
static __always_inline __u32 bh_mark_turn(void)
{
    return (__u32)(bpf_ktime_get_ns() >> BH_MARK_TURN_SHIFT);
}

static __always_inline void bh_mark(struct __sk_buff* skb)
{
    __u32 zero = 0;
    const struct bh_mark_secret* secret = bpf_map_lookup_elem(&bh_mark_secret, &zero);
    if (secret)
        skb->tc_index = (__u32)bh_mark_of(secret, bh_mark_turn());
}

/* Of the last four seconds at least: a packet waits for its next hop's link address for three. Not static: verified
 * once. */
__noinline int bh_is_a_mark(__u32 index)
{
    __u32 zero = 0, turn = bh_mark_turn();
    const struct bh_mark_secret* secret = bpf_map_lookup_elem(&bh_mark_secret, &zero);
    return secret && (index == bh_mark_of(secret, turn) || index == bh_mark_of(secret, turn - 1) ||
                      index == bh_mark_of(secret, turn - 2));
}

static __always_inline int bh_has_the_mark(const struct __sk_buff* skb)
{
    return BH_UNLIKELY(skb->tc_index) && bh_is_a_mark(skb->tc_index);
}

#define BH_IFF_SLAVE 0x800 /* include/uapi/linux/if.h: of a bond */

#define BH_BIT_OF(name)                                                                                                \
    (bpf_core_enum_value_exists(enum netdev_priv_flags, name) ? bpf_core_enum_value(enum netdev_priv_flags, name) : 0)

/* A bond, a team, a switch (Open vSwitch) or a pair (net_failover) has it for itself, and is guarded. */
static __always_inline int bh_is_a_port(const struct net_device* device)
{
    return (BPF_CORE_READ(device, flags) & BH_IFF_SLAVE) ||
           (BPF_CORE_READ_BITFIELD_PROBED(device, priv_flags) &
            (BH_BIT_OF(IFF_TEAM_PORT) | BH_BIT_OF(IFF_OVS_DATAPATH) | BH_BIT_OF(IFF_FAILOVER_SLAVE)));
}

static __always_inline int bh_has_vlans(const struct net_device* device)
{
    if (!bpf_core_field_exists(device->vlan_info))
        return 0;
    const struct vlan_info* info = BPF_CORE_READ(device, vlan_info);
    return info && (!bpf_core_field_exists(info->grp) || BPF_CORE_READ(info, grp.nr_vlan_devs) > 0);
}

#define BH_VLAN_NUMBER 0xfff
#define BH_VLANS_IN_A_PART 512
#define BH_ETH_P_8021AD 0x88a8

/*
 * Tagged by a VLAN that stands in this namespace: each puts its own number on what it sends (vlan_dev_hard_start_xmit),
 * but one with 'reorder_hdr off', which has it in the data. Anybody could write it there.
 */
static __always_inline int bh_is_of_own_vlan(struct __sk_buff* skb, const struct net_device* device)
{
    const struct vlan_info* info = BPF_CORE_READ(device, vlan_info);
    __u32 number = skb->vlan_tci & BH_VLAN_NUMBER, of_8021ad = skb->vlan_proto == bpf_htons(BH_ETH_P_8021AD);
    struct net_device** part = NULL;
    const struct net_device* vlan = NULL;
    const struct vlan_info___in_two* in_two = (const void*)info;
    __u64 parts = (__u64)info;
    if (!skb->vlan_present)
        return 0;
    if (bpf_core_field_exists(info->grp.vlan_devices_arrays) &&
        bpf_core_field_size(info->grp.vlan_devices_arrays) == sizeof(info->grp.vlan_devices_arrays))
        parts += bpf_core_field_offset(struct vlan_info, grp.vlan_devices_arrays);
    else if (bpf_core_field_exists(in_two->grp.vlan_devices_arrays) &&
             bpf_core_field_size(in_two->grp.vlan_devices_arrays) == sizeof(in_two->grp.vlan_devices_arrays))
        parts += bpf_core_field_offset(struct vlan_info___in_two, grp.vlan_devices_arrays);
    else
        return 0;
    bpf_probe_read_kernel(&part, sizeof(part), (void*)(parts + (of_8021ad * 8 + number / BH_VLANS_IN_A_PART) * 8));
    bpf_probe_read_kernel(&vlan, sizeof(vlan), part + number % BH_VLANS_IN_A_PART);
    return BPF_CORE_READ(vlan, nd_net.net, ns.inum) == guarded_netns;
}

/*
 * What has no route any more (a bond, MACsec and a VLAN on a device that does drop it, a flow table needs none) has
 * gone through this namespace's.
 */
static __always_inline int bh_has_no_other_source(struct __sk_buff* skb, const struct net_device* device)
{
    int is_taken = BPF_CORE_READ(device, rx_handler) != NULL;
    if (bh_has_vlans(device))
        return !is_taken && bh_is_of_own_vlan(skb, device);
    return !is_taken || bh_is_a_port(device);
}

#define BH_ETH_P_MACSEC 0x88e5

static __noinline int bh_was_routed_here(struct __sk_buff* skb)
{
    const struct sk_buff* packet = bh_kernel_packet(skb);
    const struct dst_entry* route = (const void*)(BPF_CORE_READ(packet, _skb_refdst) & ~1ul);
    if (route)
        return BPF_CORE_READ(route, dev, nd_net.net, ns.inum) == guarded_netns;
    return skb->protocol == bpf_htons(BH_ETH_P_MACSEC) || bh_has_no_other_source(skb, BPF_CORE_READ(packet, dev));
}

#define BH_KIND_MACVLAN 0x6e616c7663616dull /* these letters; all ends with 0 */
#define BH_KIND_NETKIT 0x74696b74656eull
#define BH_KIND_IPVLAN 0x6e616c767069ull
#define BH_KIND_VETH 0x68746576ull

/*
 * What leaves by it may be another namespace's at once, with all that is written on the packet. What a macvlan or an
 * ipvlan gives to the interface that it stands on is asked for the mark there; what they give to each other is not:
 * frames for a group (macvlan_broadcast), and to the link address that all ipvlans have (ipvlan_xmit_mode_l2).
 */
static __noinline int bh_may_end_elsewhere(struct __sk_buff* skb)
{
    const struct sk_buff* packet = bh_kernel_packet(skb);
    const char* name = BPF_CORE_READ(packet, dev, rtnl_link_ops, kind);
    __u16 frame[6]; /* to, from */
    __u64 kind = 0;
    bpf_probe_read_kernel_str(&kind, sizeof(kind), name);
    if (kind == BH_KIND_VETH || kind == BH_KIND_NETKIT)
        return 1;
    if ((kind != BH_KIND_MACVLAN && kind != BH_KIND_IPVLAN) || bpf_skb_load_bytes(skb, 0, frame, sizeof(frame)))
        return 0;
    if (kind == BH_KIND_MACVLAN)
        return frame[0] & bpf_htons(0x100);
    return frame[0] == frame[3] && frame[1] == frame[4] && frame[2] == frame[5];
}

static __always_inline int bh_was_judged(struct __sk_buff* skb)
{
    return skb->ingress_ifindex && bh_has_the_mark(skb) && bh_was_routed_here(skb);
}

/* The same, where that is asked last. */
static __always_inline int bh_passes_as_judged(struct __sk_buff* skb)
{
    if (!bh_was_judged(skb))
        return 0;
    if (bh_may_end_elsewhere(skb))
        skb->tc_index = 0;
    return 1;
}

#endif
