/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What stays in its network namespace: loopback addresses, and the namespace's own. The address of another namespace of
 * the same machine is a peer like any other.
 */
#ifndef BULKHEAD_BPF_LOOPBACK_H
#define BULKHEAD_BPF_LOOPBACK_H

#include "bpf/address.h"
#include "bpf/maps.h"

/* What most addresses that are nobody's that we know are told by, without a look-up. */
static __always_inline int bh_is_nobodys(__u32 folded)
{
    __u32 bit = bh_own_filter_bit_of(folded);
    return (int)(not_own_addresses[bit / 64] >> bit % 64 & 1);
}

/* Bits of enum bh_own_address; 0: nobody's that we know. */
static __always_inline __u32 bh_own_address(const struct bh_address* address)
{
    if (BH_LIKELY(bh_is_nobodys(bh_fold_address(address))))
        return 0;
    const __u8* marks = bpf_map_lookup_elem(&bh_own_addresses, address);
    return marks ? *marks : 0;
}

/* The same, as a call. Not static: what comes after it is verified once, not once for each way through it. */
__noinline int bh_is_ours(const struct bh_address* address)
{
    if (!address)
        return 0;
    struct bh_address key = *address; /* before Linux 6.2, a key has to be on the stack */
    BH_KEEP_COPY(&key);
    return bh_own_address(&key) != 0;
}

/* Of an address with marks, which is no loopback address. */
static __always_inline __u8 bh_loopback_of_own(const struct bh_address* address, __u32 marks, __u32 netns)
{
    if (netns == guarded_netns)
        return marks & BH_OWN_LOOPBACK ? BH_LOOPBACK_OWN : BH_LOOPBACK_NONE;
    if (!(marks & BH_OWN_ELSEWHERE))
        return BH_LOOPBACK_NONE;
    struct bh_own_key key = {.address = *address, .netns = netns};
    return bpf_map_lookup_elem(&bh_own_elsewhere, &key) ? BH_LOOPBACK_OWN : BH_LOOPBACK_NONE;
}

/* enum bh_loopback of an address, seen from a namespace. What is a peer costs one look-up. */
static __always_inline __u8 bh_loopback_of(const struct bh_address* address, __u32 netns)
{
    if (bh_is_loopback(address))
        return BH_LOOPBACK_ADDRESS;
    __u32 marks = bh_own_address(address);
    return marks ? bh_loopback_of_own(address, marks, netns) : BH_LOOPBACK_NONE;
}

/* The same, as a call; see bh_is_ours(). */
__noinline int bh_stays_in(const struct bh_address* address, __u32 netns)
{
    if (!address)
        return 0;
    struct bh_address key = *address;
    BH_KEEP_COPY(&key);
    return bh_loopback_of(&key, netns) != BH_LOOPBACK_NONE;
}

/* Of the host, or of the namespace that the sender is in (a macvlan's packets leave by the host's interface). */
static __always_inline int bh_is_own_source(const struct bh_address* source, __u32 netns)
{
    __u32 marks = bh_own_address(source);
    if (marks & BH_OWN_UNICAST)
        return 1;
    if (!(marks & BH_OWN_ELSEWHERE))
        return 0;
    struct bh_own_key key = {.address = *source, .netns = netns};
    return bpf_map_lookup_elem(&bh_own_elsewhere, &key) != NULL;
}

static __always_inline int bh_plane_is_about_loopback(__u32 slot)
{
    const struct bh_plane_info* info = bpf_map_lookup_elem(&bh_plane_info, &slot);
    return info && info->loopback != BH_DEFAULT_NONE;
}

/* False: every verdict about loopback would be "allowed". */
static __always_inline int bh_planes_are_about_loopback(struct bh_control control)
{
    return bh_plane_is_about_loopback(control.active_slot) || bh_plane_is_about_loopback(control.shadow_slot);
}

#endif
