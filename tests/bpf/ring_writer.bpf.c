/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Writes numbered records into a ring, each of another length than the one before; every fifth is given up. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} ring SEC(".maps");

#define SHORT 20
#define LONG 1004 /* neither is a multiple of 8, at which the next begins */

__u32 next_number;
__u32 lost;

static __always_inline void write(__u32 number, const __u32 length)
{
    __u32* record = bpf_ringbuf_reserve(&ring, length, 0);
    if (!record) {
        lost++;
        return;
    }
    record[0] = number;
    record[length / 4 - 1] = ~number;
    if (number % 5 == 0)
        bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
    else
        bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

SEC("tc")
int write_one(struct __sk_buff* skb)
{
    __u32 number = next_number++;
    if (number & 1)
        write(number, LONG);
    else
        write(number, SHORT);
    return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
