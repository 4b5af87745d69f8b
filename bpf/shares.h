/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who may take which places of a table for all. Of sixteen neighbours each one has twelve: of every four all but one,
 * which is said by two bits of the share. So whoever fills all that he may leaves free the places that are not his and
 * are another's, and nobody's need be counted.
 */
#ifndef BULKHEAD_BPF_SHARES_H
#define BULKHEAD_BPF_SHARES_H

#include "bpf/address.h"

#define BH_WHOLE_SHARE 0x100u
#define BH_SHARE_OF_EIGHT 0x0fu    /* the bits about the first eight of sixteen */
#define BH_KEPT_FOR_SERVICES 0x0au /* of the first eight, the third of every four */

static __always_inline int bh_is_in_share(__u32 share, __u32 at)
{
    return share == BH_WHOLE_SHARE || (share >> (at >> 1 & 6) & 3) != (at & 3);
}

static __always_inline __u32 bh_scatter(__u32 word)
{
    return (word * 0x9e3779b1u) >> 24;
}

/*
 * Who logs in may have many users (subuid(5)), so what is kept for services does not depend on which. They have every
 * third of four, and root has all.
 */
static __always_inline __u32 bh_share_of_user(__u32 uid)
{
    if (uid == 0)
        return BH_WHOLE_SHARE;
    __u32 share = bh_scatter(uid);
    if (bh_is_service(uid))
        return share | (share >> 1 & 0x55);
    return (share & ~BH_SHARE_OF_EIGHT) | BH_KEPT_FOR_SERVICES;
}

/* An end has an IPv6 network's lower half to itself. */
static __always_inline __u32 bh_share_of_peer(const struct bh_address* remote)
{
    const __u32* words = bh_const_words(remote);
    return bh_scatter(bh_is_v4(remote) ? words[3] : words[0] ^ words[1]);
}

#endif
