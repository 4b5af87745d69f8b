/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's programs have in bpf/shares.h, as functions of this process. */
#include "tests/unit/bpf/shares.h"

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))

#include <linux/types.h>

static __u32 random_place;
static __u32 processor;

static __u32 bpf_get_prandom_u32(void)
{
    return random_place;
}

static __u32 bpf_get_smp_processor_id(void)
{
    return processor;
}

int bh_share_of_user(__u32 uid);

#include "bpf/shares.h"

unsigned share_of_user(unsigned uid)
{
    return (unsigned)bh_share_of_user(uid);
}

unsigned share_of_peer(const unsigned char address[16])
{
    struct bh_address copy;
    __builtin_memcpy(&copy, address, sizeof copy);
    return bh_share_of_peer(&copy);
}

int is_in_share(unsigned share, unsigned place)
{
    return bh_is_in_share(share, place) != 0;
}

int may_go(int goes_on, long long idle_ns, long long longest_ns)
{
    return bh_may_go(goes_on, idle_ns, longest_ns);
}

unsigned place_to_try(unsigned* hand, unsigned* run, unsigned step, unsigned places, unsigned on_processor,
                      unsigned random)
{
    processor = on_processor;
    random_place = random;
    return bh_place_to_try(hand, run, step, places);
}
