/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a cgroup lies in. */
#ifndef BULKHEAD_BPF_ANCESTORS_H
#define BULKHEAD_BPF_ANCESTORS_H

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "bpf/kernel_types.h"

/* As bpf_skb_ancestor_cgroup_id() has it: the cgroup's own id at its own level, which `level` must not exceed. */
static __always_inline __u64 bh_ancestor_id(const struct cgroup* cgroup, __u32 level)
{
    __u64 id = 0;
    if (bpf_core_field_exists(cgroup->ancestors)) {
        const struct cgroup* ancestor = NULL;
        const char* ancestors = (const char*)cgroup + bpf_core_field_offset(struct cgroup, ancestors);
        bpf_probe_read_kernel(&ancestor, sizeof(ancestor), ancestors + (__u64)level * sizeof(ancestor));
        id = ancestor ? BPF_CORE_READ(ancestor, kn, id) : 0;
    } else {
        const char* ids = (const char*)cgroup + bpf_core_field_offset(struct cgroup___before_6_1, ancestor_ids);
        bpf_probe_read_kernel(&id, sizeof(id), ids + (__u64)level * sizeof(id));
    }
    return id;
}

#endif
