/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The 16-byte form of addresses (common/abi). Words are in network byte order. */
#ifndef BULKHEAD_BPF_ADDRESS_H
#define BULKHEAD_BPF_ADDRESS_H

#include <linux/types.h>

#include <bpf/bpf_endian.h>

#include "common/abi/bulkhead.h"

/*
 * Ends a branch that reads context fields. Without it the compiler merges the reads of two branches into one through a
 * computed context pointer, which the verifier refuses.
 */
#define BH_KEEP_BRANCHES_APART() asm volatile("" ::: "memory")

/* Of a copy on the stack that the compiler would do without. */
#define BH_KEEP_COPY(copy) asm volatile("" ::"r"(copy) : "memory")

/* What the compiler is to put out of the way, so that the usual way is in few cache lines. */
#define BH_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define BH_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#define BH_V4_MARK bpf_htonl(0x0000ffff)

static __always_inline __u32* bh_words(struct bh_address* address)
{
    return (__u32*)(void*)address;
}

static __always_inline const __u32* bh_const_words(const struct bh_address* address)
{
    return (const __u32*)(const void*)address;
}

static __always_inline void bh_set_v4(struct bh_address* address, __u32 v4)
{
    __u32* word = bh_words(address);
    word[0] = 0;
    word[1] = 0;
    word[2] = BH_V4_MARK;
    word[3] = v4;
}

static __always_inline void bh_set_v6(struct bh_address* address, __u32 a, __u32 b, __u32 c, __u32 d)
{
    __u32* word = bh_words(address);
    word[0] = a;
    word[1] = b;
    word[2] = c;
    word[3] = d;
}

static __always_inline int bh_is_v4(const struct bh_address* address)
{
    const __u32* word = bh_const_words(address);
    return word[0] == 0 && word[1] == 0 && word[2] == BH_V4_MARK;
}

static __always_inline int bh_is_same(const struct bh_address* one, const struct bh_address* other)
{
    const __u32* a = bh_const_words(one);
    const __u32* b = bh_const_words(other);
    return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static __always_inline int bh_is_loopback(const struct bh_address* address)
{
    const __u32* word = bh_const_words(address);
    if (word[0] != 0 || word[1] != 0)
        return 0;
    if (word[2] == BH_V4_MARK)
        return (word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
    return word[2] == 0 && word[3] == bpf_htonl(1);
}

/* Of the same family. */
static __always_inline void bh_set_loopback(struct bh_address* address)
{
    if (bh_is_v4(address))
        bh_set_v4(address, bpf_htonl(0x7f000001));
    else
        bh_set_v6(address, 0, 0, 0, bpf_htonl(1));
}

/* As a destination, the host itself. */
static __always_inline int bh_is_unspecified(const struct bh_address* address)
{
    const __u32* word = bh_const_words(address);
    return word[0] == 0 && word[1] == 0 && (word[2] == 0 || word[2] == BH_V4_MARK) && word[3] == 0;
}

#endif
