/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* In which context a program runs, where that matters and the program type does not say. */
#ifndef BULKHEAD_BPF_CONTEXT_H
#define BULKHEAD_BPF_CONTEXT_H

#include <bpf/bpf_core_read.h>

#include "bpf/kernel_types.h"
#include "bpf/maps.h"

/*
 * What preempt_count() has more of than a process that asks: softirqs served or disabled count from 1 << 8 up,
 * interrupts above (include/linux/preempt.h). The highest bit is not a count.
 */
#define BH_PREEMPT_COUNT 0x7fffffff
#define BH_LEAST_OF_A_PACKET 16
#define BH_SERVES_SOFTIRQ (1 << 8) /* SOFTIRQ_OFFSET; softirqs that are only disabled count in twos of it */
#define BH_SERVES_INTERRUPT (1 << 16)

/* -1: not known. */
static __always_inline int bh_preempt_count(const struct task_struct* task)
{
    __u32 count = 0;
    /* CONFIG_PREEMPT_RT counts elsewhere. */
    if (bpf_core_field_exists(struct task_struct___rt, softirq_disable_cnt))
        return -1;
    if (bpf_core_field_exists(struct thread_info___arm64, preempt.count)) {
        count = BPF_CORE_READ((const struct task_struct___arm64*)task, thread_info.preempt.count);
        return (int)(count & BH_PREEMPT_COUNT);
    }
    if (!preempt_count_from_runqueues || !bpf_core_field_exists(struct sched_entity, cfs_rq))
        return -1;
    /* No helper says where this CPU's variables are, and their names may not be resolved (CONFIG_KALLSYMS_ALL). */
    const struct rq* runqueues = BPF_CORE_READ(task, se.cfs_rq, rq);
    if (!runqueues || (__u32)BPF_CORE_READ(runqueues, cpu) != bpf_get_smp_processor_id() ||
        bpf_probe_read_kernel(&count, sizeof(count), (const void*)runqueues + preempt_count_from_runqueues))
        return -1;
    return (int)(count & BH_PREEMPT_COUNT);
}

/*
 * Whether a socket is looked up for a packet, or for a process that asks by sock_diag(7) and makes up both ends
 * (inet_diag_find_one_icsk, udp_dump_one), which anybody may. Packets are received with softirqs off, on behalf of
 * whoever runs; questions are answered with softirqs on. Where that cannot be told, it is a packet. So a question gets
 * the verdict of a packet, begins and refreshes no conversation, and no refusal of it is told.
 */
__noinline int bh_a_packet_asks(void)
{
    const struct task_struct* task = (void*)bpf_get_current_task();
    if (!BPF_CORE_READ(task, mm)) /* no process */
        return 1;
    int count = bh_preempt_count(task);
    return count < 0 || count >= BH_LEAST_OF_A_PACKET;
}

/* What goes on now, the running task has asked for: no interrupt is served on its back. Not known: 0. */
__noinline int bh_runs_for_current(void)
{
    int count = bh_preempt_count((void*)bpf_get_current_task());
    return count >= 0 && count < BH_SERVES_INTERRUPT && !(count & BH_SERVES_SOFTIRQ);
}

#endif
