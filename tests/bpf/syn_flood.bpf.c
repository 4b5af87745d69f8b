/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Makes of each frame of a test run with live frames (Linux 5.18, bpf_prog_test_run_opts) a SYN from and to ports and
 * addresses at random, and lets the device that the run names receive it (XDP_PASS) or send it (XDP_TX; a veth pair
 * does where the receiving end has NAPI: by an XDP program or by GRO). Millions of packets a system call, since nothing
 * happens for some 25 ms at its end; a frame that is not due yet, or that would be one too many, is dropped.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

volatile const __u32 first_source; /* host byte order, as all here */
volatile const __u32 sources;
volatile const __u32 first_port;
volatile const __u32 ports;
volatile const __u32 action = XDP_PASS; /* enum xdp_action */
volatile const __u64 packets;
volatile const __u64 interval_ns; /* 0: as fast as it goes */
volatile const __u64 deadline_ns; /* CLOCK_MONOTONIC */

/* Each thread of a flood has a program of its own. */
__u64 begun_ns;
__u64 last_ns;
__u64 sent;

#define FIRST_SOURCE_PORT 1024
#define SOURCE_PORTS 60000

static __always_inline int is_due(void)
{
    __u64 now = bpf_ktime_get_ns();
    if (!begun_ns)
        begun_ns = now;
    if (sent >= packets || now >= deadline_ns || now < begun_ns + sent * interval_ns)
        return 0;
    last_ns = now;
    sent++;
    return 1;
}

static __always_inline __u16 folded(__u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (__u16) ~((sum & 0xffff) + (sum >> 16));
}

static __always_inline __u32 sum_of(const __u16* words, int count)
{
    __u32 sum = 0;
#pragma unroll
    for (int i = 0; i < count; i++)
        sum += words[i];
    return sum;
}

SEC("xdp")
int syn_flood(struct xdp_md* ctx)
{
    struct frame {
        struct ethhdr ether;
        struct iphdr ip;
        struct tcphdr tcp;
    } __attribute__((packed))* frame = (void*)(long)ctx->data;
    if ((void*)(frame + 1) > (void*)(long)ctx->data_end || !is_due())
        return XDP_DROP;
    __u32 chance = bpf_get_prandom_u32();
    frame->ip.saddr = bpf_htonl(first_source + bpf_get_prandom_u32() % (sources ?: 1));
    frame->ip.check = 0;
    frame->ip.check = folded(sum_of((void*)&frame->ip, sizeof(frame->ip) / 2));
    frame->tcp.source = bpf_htons(FIRST_SOURCE_PORT + (chance >> 16) * SOURCE_PORTS / 65536);
    frame->tcp.dest = bpf_htons(first_port + (chance & 0xffff) % (ports ?: 1));
    frame->tcp.check = 0;
    frame->tcp.check = folded(sum_of((void*)&frame->ip.saddr, 4) + bpf_htons(IPPROTO_TCP) +
                              bpf_htons(sizeof(frame->tcp)) + sum_of((void*)&frame->tcp, sizeof(frame->tcp) / 2));
    return action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
