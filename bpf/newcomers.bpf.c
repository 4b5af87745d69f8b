/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tells the agent that a cgroup is being made below the enforced one, so that it is known before a process in it has
 * come to connect. An object of its own, with a ring of its own: neither is pinned, and a kernel that does not let it
 * be attached only tells nothing.
 */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "bpf/ancestors.h"

/* The enforced cgroup, how deep it is below the root, and who owns its folder. The agent fills them. */
const volatile __u64 scope_cgroup = 0;
const volatile __u32 scope_level = 0;
const volatile __u32 scope_owner = 0;

/* One record at most waits in it, whatever is made: it says "look". */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} bh_new_cgroups SEC(".maps");

/*
 * A folder belongs to whoever makes it. What others than the owner of the enforced one make lies, as a rule, in what
 * was given to them, where names count for nothing: it has its classes from above at once. So they cannot keep the
 * agent busy either.
 */
static __always_inline int bh_is_owner_of_scope(void)
{
    const struct task_struct* task = (const void*)bpf_get_current_task();
    return BPF_CORE_READ(task, cred, fsuid.val) == scope_owner;
}

SEC("raw_tracepoint/cgroup_mkdir")
int bh_cgroup_is_made(struct bpf_raw_tracepoint_args* ctx)
{
    const struct cgroup* cgroup = (const void*)ctx->args[0];
    if (BPF_CORE_READ(cgroup, root, hierarchy_id) != 0 || BPF_CORE_READ(cgroup, level) <= (int)scope_level)
        return 0;
    if (!bh_is_owner_of_scope() || bh_ancestor_id(cgroup, scope_level) != scope_cgroup)
        return 0;
    if (bpf_ringbuf_query(&bh_new_cgroups, BPF_RB_AVAIL_DATA) != 0)
        return 0;
    __u64 id = BPF_CORE_READ(cgroup, kn, id);
    bpf_ringbuf_output(&bh_new_cgroups, &id, sizeof(id), BPF_RB_FORCE_WAKEUP);
    return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
