/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who is behind a socket, and which process classes that makes: the intersection of what each facet of the process
 * says. Class 0 ("any process") always holds. Looked at only when a plane in force has entries that ask for a process.
 */
#ifndef BULKHEAD_BPF_SUBJECT_H
#define BULKHEAD_BPF_SUBJECT_H

#include <bpf/bpf_core_read.h>

#include "bpf/ancestors.h"
#include "bpf/kernel_types.h"
#include "bpf/verdict.h"

static __always_inline void bh_read_executable(struct bh_subject* subject, struct task_struct* task)
{
    struct inode* inode = BPF_CORE_READ(task, mm, exe_file, f_inode);
    subject->exe_inode = 0;
    subject->exe_device = 0;
    if (!inode) /* a kernel thread */
        return;
    subject->exe_inode = BPF_CORE_READ(inode, i_ino);
    subject->exe_device = BPF_CORE_READ(inode, i_sb, s_dev);
}

#define BH_PF_KTHREAD 0x00200000 /* include/linux/sched.h */

/* Not by the inode: a file system in user space may number one 0. Asked by who runs for a socket. */
static __always_inline int bh_is_kernel_thread(const struct bh_subject* subject)
{
    if (subject->exe_inode != 0)
        return 0;
    const struct task_struct* task = (const void*)bpf_get_current_task();
    return (BPF_CORE_READ(task, flags) & BH_PF_KTHREAD) != 0;
}

/*
 * Where the running task can be had as a typed pointer in every program (since before Linux 6.1), its members are plain
 * loads, a few nanoseconds for all of them; bpf_probe_read_kernel() takes some 25 ns for each.
 */
static __always_inline int bh_task_is_typed(void)
{
    return bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_ktime_get_tai_ns);
}

/* All but `comm`, through a pointer that the verifier knows the type of; it takes a NULL on the way for a zero. */
static __always_inline void bh_load_task(struct bh_subject* subject, struct task_struct* task)
{
    /* Of a pointer that it trusts, the verifier looks for the name of each member's structure, with others put to it,
     * among all of the kernel's: half a millisecond each (btf_nested_type_is_trusted). What is cast it does not trust.
     */
    if (bpf_rdonly_cast)
        task = bpf_rdonly_cast(task, bpf_core_type_id_kernel(struct task_struct));
    struct inode* inode = task->mm->exe_file->f_inode;
    subject->pid = task->tgid;
    subject->tid = task->pid;
    subject->uid = task->cred->uid.val;
    subject->cgroup_id = task->cgroups->dfl_cgrp->kn->id;
    subject->exe_inode = inode->i_ino; /* 0: a kernel thread */
    subject->exe_device = inode->i_sb->s_dev;
}

/* Two loads instead of a call, where the type is had for nothing. */
static __always_inline void bh_name_of_current(struct bh_subject* subject, struct task_struct* task)
{
    if (!bpf_rdonly_cast) {
        bpf_get_current_comm(subject->comm, sizeof(subject->comm));
        return;
    }
    /* A number to the compiler: as part of the load, libbpf would insist on the length that the name has here. */
    __u64 at = bpf_core_field_offset(struct task_struct, comm);
    asm volatile("" : "+r"(at));
    const __u64* name = bpf_rdonly_cast(task, bpf_core_type_id_kernel(struct task_struct)) + at;
    __u64* copy = (void*)subject->comm;
    copy[0] = name[0];
    copy[1] = name[1];
}

/* Of the task that runs: for programs in its context and with its helpers (connect, sendmsg, bind). */
static __always_inline void bh_subject_of_current(struct bh_subject* subject)
{
    if (bh_task_is_typed()) {
        struct task_struct* task = bpf_get_current_task_btf();
        bh_name_of_current(subject, task);
        bh_load_task(subject, task);
        return;
    }
    bpf_get_current_comm(subject->comm, sizeof(subject->comm));
    __u64 ids = bpf_get_current_pid_tgid();
    subject->pid = ids >> 32;
    subject->tid = (__u32)ids;
    subject->uid = (__u32)bpf_get_current_uid_gid();
    subject->cgroup_id = bpf_get_current_cgroup_id();
    bh_read_executable(subject, (struct task_struct*)bpf_get_current_task());
}

static __always_inline void bh_subject_of_task(struct bh_subject* subject, struct task_struct* task)
{
    subject->pid = BPF_CORE_READ(task, tgid);
    subject->tid = BPF_CORE_READ(task, pid);
    subject->uid = BPF_CORE_READ(task, cred, uid.val);
    subject->cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
    BPF_CORE_READ_INTO(&subject->comm, task, comm);
    bh_read_executable(subject, task);
}

/*
 * Of the task that runs, by reading its structures: where the helpers are not offered (sock_ops before 6.10). Not
 * static, as the next: verified once, not for every way that leads here (with a pointer: since Linux 5.12).
 */
__noinline int bh_read_current(struct bh_subject* subject)
{
    if (subject)
        bh_subject_of_task(subject, (struct task_struct*)bpf_get_current_task());
    return 0;
}

__noinline int bh_read_cgroups_of_current(struct bh_cgroup_path* path)
{
    struct task_struct* task = (struct task_struct*)bpf_get_current_task();
    if (!path)
        return 0;
    const struct cgroup* cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
    int level = cgroup ? BPF_CORE_READ(cgroup, level) : 0;
    path->id[0] = cgroup ? BPF_CORE_READ(cgroup, kn, id) : 0;
#pragma unroll
    for (int i = 1; i < BH_CGROUP_LEVELS; i++)
        path->id[i] = BH_CGROUP_LEVELS - i < level ? bh_ancestor_id(cgroup, BH_CGROUP_LEVELS - i) : 0;
    return 0;
}

static __always_inline int bh_planes_look_at_processes(struct bh_control control)
{
    __u32 slot = control.active_slot;
    const struct bh_plane_info* info = bpf_map_lookup_elem(&bh_plane_info, &slot);
    if (info && info->has_processes)
        return 1;
    slot = control.shadow_slot;
    info = bpf_map_lookup_elem(&bh_plane_info, &slot);
    return info && info->has_processes;
}

/* Whose word counts; in test mode nothing but the shadow plane says what would be. */
static __always_inline __u32 bh_leading_slot(struct bh_control control)
{
    return control.active_slot != BH_SLOT_NONE ? control.active_slot : control.shadow_slot;
}

/* The planes in force share one table of facets (one realisation, one numbering of classes). */
static __always_inline void* bh_facet_table(struct bh_control control)
{
    __u32 slot = bh_leading_slot(control);
    return bpf_map_lookup_elem(&bh_plane_facets, &slot);
}

static __always_inline void bh_intersect(struct bh_class_vector* classes, const struct bh_class_vector* with)
{
#pragma unroll
    for (int i = 0; i < BH_CLASS_WORDS; i++)
        classes->word[i] &= with ? with->word[i] : 0;
}

static __always_inline const struct bh_class_vector* bh_facet_default(void* facets, __u32 facet)
{
    struct bh_facet_key key = {.facet = facet | BH_FACET_DEFAULT};
    return bpf_map_lookup_elem(facets, &key);
}

static __always_inline const struct bh_class_vector* bh_cgroup_row(void* facets, __u64 cgroup_id)
{
    struct bh_facet_key key = {.value = cgroup_id, .facet = BH_FACET_CGROUP};
    return bpf_map_lookup_elem(facets, &key);
}

static __noinline int bh_user_and_executable(void* facets, const struct bh_subject* subject,
                                             struct bh_class_vector* classes)
{
    struct bh_facet_key key = {.value = subject->uid, .facet = BH_FACET_USER};
    const struct bh_class_vector* row = bpf_map_lookup_elem(facets, &key);
    bh_intersect(classes, row ? row : bh_facet_default(facets, BH_FACET_USER));

    key.value = subject->exe_inode;
    key.device = subject->exe_device;
    key.facet = BH_FACET_EXECUTABLE;
    row = bpf_map_lookup_elem(facets, &key);
    bh_intersect(classes, row ? row : bh_facet_default(facets, BH_FACET_EXECUTABLE));
    return 0;
}

static __always_inline void bh_only_any_process(struct bh_class_vector* classes)
{
    __builtin_memset(classes, 0, sizeof(*classes));
    classes->word[0] = 1;
}

static __always_inline void bh_all_classes(struct bh_class_vector* classes)
{
    __builtin_memset(classes, 0xff, sizeof(*classes));
}

/* Classes of a process that is known by what was stored of it. Not static, as bh_read_current(). */
__noinline int bh_classes_of_stored(__u32 slot, const struct bh_subject* subject, const struct bh_cgroup_path* cgroups,
                                    struct bh_class_vector* classes)
{
    void* facets = bpf_map_lookup_elem(&bh_plane_facets, &slot);
    if (!subject || !cgroups || !classes)
        return 0;
    if (!facets) {
        bh_only_any_process(classes);
        return 0;
    }
    bh_all_classes(classes);
    bh_user_and_executable(facets, subject, classes);

    const struct bh_class_vector* row = NULL;
    for (int i = 0; i < BH_CGROUP_LEVELS && !row; i++)
        if (cgroups->id[i])
            row = bh_cgroup_row(facets, cgroups->id[i]);
    bh_intersect(classes, row ? row : bh_facet_default(facets, BH_FACET_CGROUP));
    classes->word[0] |= 1;
    return 0;
}

/*
 * What is sure, and what is possible, of a process of which only the cgroup is known. What that lies in is looked at as
 * in bh_cgroup_path, which is not stored: the frames of a door have to share 512 bytes.
 */
static __noinline int bh_classes_of_cgroup(void* facets, const struct cgroup* cgroup, struct bh_class_vector* sure,
                                           struct bh_class_vector* possible)
{
    const struct bh_class_vector* row = NULL;

    int own_level = cgroup ? BPF_CORE_READ(cgroup, level) : 0;
    if (cgroup)
        row = bh_cgroup_row(facets, BPF_CORE_READ(cgroup, kn, id));
    for (int level = BH_CGROUP_LEVELS - 1; level > 0 && !row; level--)
        if (level < own_level)
            row = bh_cgroup_row(facets, bh_ancestor_id(cgroup, level));
    bh_all_classes(possible);
    bh_intersect(possible, row ? row : bh_facet_default(facets, BH_FACET_CGROUP));
    *sure = *possible;
    bh_intersect(sure, bh_facet_default(facets, BH_FACET_USER));
    bh_intersect(sure, bh_facet_default(facets, BH_FACET_EXECUTABLE));
    sure->word[0] |= 1;
    possible->word[0] |= 1;
    return 0;
}

/*
 * The deepest level at which a cgroup above or of the running task has a row in the leading plane's table; -1: none.
 * Not static: verified once, not for every way that leads here (Linux 5.6).
 */
__noinline int bh_level_of_current(__u32 slot)
{
    void* facets = bpf_map_lookup_elem(&bh_plane_facets, &slot);
    if (!facets)
        return -1;
    for (int level = BH_CGROUP_LEVELS - 1; level >= 0; level--) {
        __u64 id = bpf_get_current_ancestor_cgroup_id(level); /* 0: the task is not that deep */
        if (id && bh_cgroup_row(facets, id))
            return level;
    }
    return -1;
}

/* Classes of the running task; `subject` is what bh_subject_of_current() said of it. Not static, as bh_read_current().
 */
__noinline int bh_classes_of_current(__u32 slot, const struct bh_subject* subject, struct bh_class_vector* classes)
{
    void* facets = bpf_map_lookup_elem(&bh_plane_facets, &slot);
    if (!subject || !classes)
        return 0;
    if (!facets) {
        bh_only_any_process(classes);
        return 0;
    }
    bh_all_classes(classes);
    bh_user_and_executable(facets, subject, classes);

    const struct bh_class_vector* row = bh_cgroup_row(facets, subject->cgroup_id);
    if (!row) {
        int level = bh_level_of_current(slot);
        if (level >= 0)
            row = bh_cgroup_row(facets, bpf_get_current_ancestor_cgroup_id(level));
    }
    bh_intersect(classes, row ? row : bh_facet_default(facets, BH_FACET_CGROUP));
    classes->word[0] |= 1;
    return 0;
}

static __always_inline void bh_swap_classes(struct bh_class_vector* a, struct bh_class_vector* b)
{
#pragma unroll
    for (int i = 0; i < BH_CLASS_WORDS; i++) {
        __u64 word = a->word[i];
        a->word[i] = b->word[i];
        b->word[i] = word;
    }
}

/*
 * The verdict where not all of the process is known: what is sure of it (question->classes) can allow, what may be of
 * it (`possible`, a superset) can deny. question->classes are then those that decided. They are swapped, not copied:
 * the frames of a door have to share 512 bytes, and each counts in steps of 32 (before Linux 6.11).
 */
__noinline int bh_judge_unsure(struct bh_question* question, struct bh_class_vector* possible, struct bh_answer* answer)
{
    struct bh_answer suspicion = {}; /* the verifier wants it written, before Linux 6.3 */

    if (!question || !possible || !answer)
        return 0;
    bh_judge(question, answer);
    bh_swap_classes(&question->classes, possible);
    bh_judge(question, &suspicion);
    if (suspicion.shadow_verdict == BH_DENIED) {
        answer->shadow_verdict = BH_DENIED;
        answer->shadow_reason = suspicion.shadow_reason;
    }
    if (answer->verdict == BH_ALLOWED && suspicion.verdict == BH_DENIED) {
        answer->verdict = BH_DENIED;
        answer->reason = suspicion.reason;
        return 0;
    }
    bh_swap_classes(&question->classes, possible);
    return 0;
}

#endif
