/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who may take which places of a table for all. Of sixteen neighbours, a run, each one has twelve: of every four all
 * but one, which is said by two bits of the share. So whoever fills all that he may leaves free the places that are not
 * his and are another's, and nobody's need be counted.
 */
#ifndef BULKHEAD_BPF_SHARES_H
#define BULKHEAD_BPF_SHARES_H

#include "bpf/address.h"

#define BH_RUN 16
#define BH_RUNS_TRIED 4
#define BH_WHOLE_SHARE 0x100u
#define BH_EVERY_OTHER 0x200u      /* and of those every other one */
#define BH_SHARE_OF_EIGHT 0x0fu    /* the bits about the first eight of sixteen */
#define BH_KEPT_FOR_SERVICES 0x0au /* of the first eight, the third of every four */

/* Not 0: it is. Without a branch, of which verifiers follow each way for each place. */
static __always_inline __u32 bh_is_in_share(__u32 share, __u32 at)
{
    __u32 mine = (((share >> (at >> 1 & 6)) ^ at) & 3) | (share & BH_WHOLE_SHARE);
    __u32 every_other_of_which_it_is_none = share >> 9 & at & 1;
    return mine & (every_other_of_which_it_is_none - 1);
}

static __always_inline __u32 bh_scatter(__u32 word)
{
    return word * 0x9e3779b1u;
}

/* Of every four one of three, not the third, as evenly as 256 can be parted. */
static __always_inline __u32 bh_share_of_service(__u32 scattered)
{
    __u32 share = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        __u32 one = (scattered >> 8 * i & 0xff) % 3;
        share |= (one == 2 ? 3 : one) << 2 * i;
    }
    return share;
}

/*
 * Who logs in may have many users (subuid(5)), so what is kept for services does not depend on which: every third of
 * four. Root has all. Not static: verified once.
 */
__noinline int bh_share_of_user(__u32 uid)
{
    if (uid == 0)
        return (int)BH_WHOLE_SHARE;
    __u32 scattered = bh_scatter(uid);
    if (bh_is_service(uid))
        return (int)bh_share_of_service(scattered);
    return (int)((scattered >> 24 & ~BH_SHARE_OF_EIGHT) | BH_KEPT_FOR_SERVICES);
}

/* Who has an IPv6 network to himself has many addresses in it, and neighbours have one each: half by either. */
static __always_inline __u32 bh_share_of_peer(const struct bh_address* remote)
{
    const __u32* words = bh_const_words(remote);
    __u32 of_one = bh_scatter(bh_fold_address(remote)) >> 24;
    if (bh_is_v4(remote))
        return of_one;
    __u32 of_network = bh_scatter(words[0] ^ words[1]) >> 24;
    return (of_one & ~BH_SHARE_OF_EIGHT) | (of_network & BH_SHARE_OF_EIGHT);
}

/*
 * Whether what has been idle so long makes room when its place is needed. A question and its answer do so earlier than
 * what goes on, as conntrack has it (nf_conntrack_udp_timeout, and nf_conntrack_udp_timeout_stream after two seconds).
 */
static __always_inline int bh_may_go(int goes_on, __s64 idle_ns, __s64 longest_ns)
{
    return idle_ns > (goes_on ? longest_ns : (__s64)BH_SHORT_IDLE_NS);
}

#define BH_PLACES_TRIED (BH_RUN * BH_RUNS_TRIED)

/*
 * The place that is tried as number `step` for a beginning: first those of the run that the hand is at, so that all
 * come by turns, then those of others. Two CPUs that are at one run begin at two places of it. `run` is between steps.
 */
static __always_inline __u32 bh_place_to_try(volatile __u32* hand, __u32* run, __u32 step, __u32 places)
{
    if (step == 0) {
        *run = *hand;
        __sync_fetch_and_add(hand, BH_RUN);
    } else if ((step & (BH_RUN - 1u)) == 0) {
        *run = bpf_get_prandom_u32();
    }
    return ((*run & ~(BH_RUN - 1u)) + ((step + 5 * bpf_get_smp_processor_id()) & (BH_RUN - 1u))) & (places - 1);
}

#endif
