/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The decision, and nothing else: no hook, no socket, no process. common/policy/plane_image.h holds the same steps in
 * C++ (policy::judge); tests/bpf compare the two, and both with the reference evaluator.
 *
 * Precedence, over the four entries {exact peer class, any} x {exact port class, any}, whose order does not matter:
 *   1. any failsafe                                  -> allowed, FAILSAFE
 *   2. any deny that meets the process's classes     -> denied,  RULE
 *   3. any allow that meets them                     -> allowed, RULE
 *   4. the plane's default of the direction          -> DEFAULT, or allowed, NO_POLICY where there is none
 *
 * Of loopback only the exact peer class is asked, which only prefixes inside loopback are part of, and the default is
 * the plane's `loopback`: without one, allowed, LOCAL. An entry with rules that expire has
 * stages, of which one speaks.
 */
#ifndef BULKHEAD_BPF_VERDICT_H
#define BULKHEAD_BPF_VERDICT_H

#include <linux/in.h>

#include "bpf/address.h"
#include "bpf/maps.h"

struct bh_question {
    struct bh_address remote;
    __u16 port; /* of the destination; see BH_PROTOCOL_OTHER */
    __u8 protocol;
    __u8 direction;
    __u8 port_unknown; /* a fragment without its header: only what is said of every port holds */
    __u8 loopback;     /* enum bh_loopback */
    __u16 pad;
    struct bh_control control; /* read once, before the classes are computed */
    struct bh_class_vector classes;
};

struct bh_answer {
    __u8 verdict, reason, shadow_verdict;
    __u8 shadow_reason : 7;
    __u8 on_time : 1; /* an entry that was met has stages: it may be another verdict later, with the same planes */
    __u32 peer_class, shadow_peer_class;
};

/* A trial whose time is over leaves the decision to the pair that was in force before it. */
static __always_inline void bh_end_trial_on_time(struct bh_control* control)
{
    __u32 slot = control->active_slot;
    const struct bh_plane_info* trial = bpf_map_lookup_elem(&bh_plane_info, &slot);
    if (!trial || bpf_ktime_get_ns() < trial->until_ns)
        return;
    control->active_slot = trial->then_active;
    control->shadow_slot = trial->then_shadow;
    control->flags = trial->then_flags;
    control->generation = trial->then_generation;
}

/* What is in force now. Every reader of the control word comes through here, once per decision. */
static __always_inline struct bh_control bh_read_control(void)
{
    struct bh_control control = {.active_slot = BH_SLOT_NONE, .shadow_slot = BH_SLOT_NONE};
    __u32 zero = 0;
    struct bh_control* current = bpf_map_lookup_elem(&bh_control, &zero);
    if (current) {
        /* One 64-bit load: both slots and the generation are of one switch. */
        __u64 word = *(volatile __u64*)(void*)current;
        __builtin_memcpy(&control, &word, sizeof(control));
        if (control.flags & BH_CONTROL_TRIAL)
            bh_end_trial_on_time(&control);
    }
    return control;
}

static __always_inline int bh_nothing_in_force(struct bh_control control)
{
    return control.active_slot == BH_SLOT_NONE && control.shadow_slot == BH_SLOT_NONE;
}

struct bh_plane_answer {
    __u32 peer_class;
    __u8 verdict;
    __u8 reason;
    __u8 on_time;
    __u8 pad;
};

struct bh_findings {
    __u64 allow;
    __u64 deny;
    __u32 failsafe;
};

/*
 * Which stage of an entry speaks now: the first that has not passed; 0: the entry itself, what remains after the last.
 * They are in the order of their instants, so half of those that are left are told apart at a time. Not static: the
 * verifier then proves it once, and not again for each way that leads to it.
 */
__noinline __u32 bh_stage_of_now(__u32 slot, __u32 peer_class, __u32 port_protocol_direction, __u32 stages)
{
    void* entries = bpf_map_lookup_elem(&bh_plane_entries, &slot);
    if (!entries)
        return 0;
    struct bh_entry_key key = {
        .peer_class = peer_class,
        .port_class = port_protocol_direction,
        .protocol = port_protocol_direction >> 16,
    };
    __u64 now = bpf_ktime_get_ns();
    __u32 passed = 0;
    for (__u32 step = BH_STAGES; step > 0; step /= 2) {
        __u32 stage = passed + step;
        if (stage > stages)
            continue;
        key.direction = (port_protocol_direction >> 24) + (stage << BH_STAGE_SHIFT);
        const struct bh_entry* entry = bpf_map_lookup_elem(entries, &key);
        if (!entry || now >= entry->until_ns)
            passed = stage;
    }
    return passed < stages ? passed + 1 : 0;
}

static __always_inline const struct bh_entry* bh_find_entry(void* entries, __u32 slot, struct bh_entry_key* key,
                                                            struct bh_plane_answer* answer)
{
    const struct bh_entry* entry = bpf_map_lookup_elem(entries, key);
    if (!entry || BH_LIKELY(!entry->stages))
        return entry;
    answer->on_time = 1;
    __u32 rest = key->port_class | (__u32)key->protocol << 16 | (__u32)key->direction << 24;
    key->direction += bh_stage_of_now(slot, key->peer_class, rest, entry->stages) << BH_STAGE_SHIFT;
    return bpf_map_lookup_elem(entries, key);
}

static __always_inline void bh_consider(void* entries, __u32 slot, const struct bh_question* question, __u32 peer_class,
                                        __u16 port_class, struct bh_findings* findings, struct bh_plane_answer* answer)
{
    struct bh_entry_key key = {
        .peer_class = peer_class,
        .port_class = port_class,
        .protocol = question->protocol,
        .direction = question->direction,
    };
    const struct bh_entry* entry = bh_find_entry(entries, slot, &key, answer);
    if (!entry)
        return;
    findings->failsafe |= entry->failsafe;
#pragma unroll
    for (int i = 0; i < BH_CLASS_WORDS; i++) {
        findings->allow |= entry->allow[i] & question->classes.word[i];
        findings->deny |= entry->deny[i] & question->classes.word[i];
    }
}

static __always_inline void bh_answer_plane(struct bh_plane_answer* answer, __u8 verdict, __u8 reason)
{
    answer->verdict = verdict;
    answer->reason = reason;
}

static __always_inline __u32 bh_find_peer_class(const struct bh_question* question, __u32 slot, void* peers,
                                                int has_prefixes, int* missing)
{
    struct bh_prefix_key key = {.prefixlen = 8 * sizeof(struct bh_address), .address = question->remote};
    if (question->loopback == BH_LOOPBACK_OWN)
        bh_set_loopback(&key.address);
    const __u32* peer_class = bpf_map_lookup_elem(peers, &key.address);
    if (peer_class)
        return *peer_class;
    if (!has_prefixes)
        return BH_PEER_ANY;
    void* prefixes = bpf_map_lookup_elem(&bh_plane_prefixes, &slot);
    if (!prefixes) {
        *missing = 1;
        return BH_PEER_ANY;
    }
    peer_class = bpf_map_lookup_elem(prefixes, &key);
    return peer_class ? *peer_class : BH_PEER_ANY;
}

static __always_inline __u16 bh_find_port_class(const struct bh_question* question, void* ports, int* missing)
{
    if (question->port_unknown)
        return BH_PORT_ANY;
    if (question->protocol != IPPROTO_TCP && question->protocol != IPPROTO_UDP)
        return question->port + BH_PORT_CLASS_FIRST;
    __u32 table = 2 * (question->direction & 1) + (question->protocol == IPPROTO_UDP);
    const struct bh_port_classes* classes = bpf_map_lookup_elem(ports, &table);
    if (!classes) {
        *missing = 1;
        return BH_PORT_ANY;
    }
    return classes->of_port[question->port];
}

static __always_inline void bh_answer_by_default(const struct bh_question* question, const struct bh_plane_info* info,
                                                 struct bh_plane_answer* answer)
{
    if (question->loopback) {
        if (info->loopback == BH_DEFAULT_DENY)
            bh_answer_plane(answer, BH_DENIED, BH_REASON_DEFAULT);
        else
            bh_answer_plane(answer, BH_ALLOWED, BH_REASON_LOCAL);
        return;
    }
    __u8 action = info->default_action[question->direction & 1];
    if (action == BH_DEFAULT_DENY)
        bh_answer_plane(answer, BH_DENIED, BH_REASON_DEFAULT);
    else if (action == BH_DEFAULT_ALLOW)
        bh_answer_plane(answer, BH_ALLOWED, BH_REASON_DEFAULT);
    else
        bh_answer_plane(answer, BH_ALLOWED, BH_REASON_NO_POLICY);
}

/*
 * A plane in force that is not whole decides nothing by chance: it refuses, and says so (reason MALFORMED, counted).
 *
 * Not static: the verifier then looks at it once by itself, not again at every call with all that each caller knows,
 * which makes loading six times as fast.
 */
__noinline int bh_judge_plane(const struct bh_question* question, __u32 slot, struct bh_plane_answer* answer)
{
    struct bh_findings findings = {};
    int missing = 0;

    if (!question || !answer)
        return 0;

    answer->peer_class = BH_PEER_ANY;
    answer->on_time = 0;
    bh_answer_plane(answer, BH_DENIED, BH_REASON_MALFORMED);

    const struct bh_plane_info* info = bpf_map_lookup_elem(&bh_plane_info, &slot);
    void* peers = bpf_map_lookup_elem(&bh_plane_peers, &slot);
    void* ports = bpf_map_lookup_elem(&bh_plane_ports, &slot);
    void* entries = bpf_map_lookup_elem(&bh_plane_entries, &slot);
    if (BH_UNLIKELY(!info || !peers || !ports || !entries)) {
        bh_count(BH_COUNT_MALFORMED);
        return 0;
    }
    __u32 peer_class = bh_find_peer_class(question, slot, peers, info->has_prefixes, &missing);
    __u16 port_class = bh_find_port_class(question, ports, &missing);
    if (BH_UNLIKELY(missing)) {
        bh_count(BH_COUNT_MALFORMED);
        return 0;
    }
    answer->peer_class = peer_class;
    __u8 shapes = info->shapes[question->direction & 1][BH_PROTOCOL_GROUP(question->protocol)];

    if (BH_LIKELY(!question->loopback)) {
        if (shapes & BH_SHAPE_ANY_ANY)
            bh_consider(entries, slot, question, BH_PEER_ANY, BH_PORT_ANY, &findings, answer);
        if ((shapes & BH_SHAPE_ANY_PORT) && port_class != BH_PORT_ANY)
            bh_consider(entries, slot, question, BH_PEER_ANY, port_class, &findings, answer);
    } else if (info->loopback == BH_DEFAULT_NONE) {
        bh_answer_plane(answer, BH_ALLOWED, BH_REASON_LOCAL);
        return 0;
    }
    if (peer_class != BH_PEER_ANY) {
        if (shapes & BH_SHAPE_PEER_ANY)
            bh_consider(entries, slot, question, peer_class, BH_PORT_ANY, &findings, answer);
        if ((shapes & BH_SHAPE_PEER_PORT) && port_class != BH_PORT_ANY)
            bh_consider(entries, slot, question, peer_class, port_class, &findings, answer);
    }

    if (findings.failsafe)
        bh_answer_plane(answer, BH_ALLOWED, BH_REASON_FAILSAFE);
    else if (findings.deny)
        bh_answer_plane(answer, BH_DENIED, BH_REASON_RULE);
    else if (findings.allow)
        bh_answer_plane(answer, BH_ALLOWED, BH_REASON_RULE);
    else
        bh_answer_by_default(question, info, answer);
    return 0;
}

/* In quarantine the planes hold failsafes and nothing else: what they refuse, the quarantine refuses. */
static __always_inline void bh_blame_quarantine(struct bh_answer* answer)
{
    if (answer->verdict == BH_DENIED && answer->reason == BH_REASON_DEFAULT)
        answer->reason = BH_REASON_QUARANTINE;
    if (answer->shadow_verdict == BH_DENIED && answer->shadow_reason == BH_REASON_DEFAULT)
        answer->shadow_reason = BH_REASON_QUARANTINE;
}

/*
 * Where the verifier follows each call, each value that it knows multiplies its work, up to its limit of a million
 * steps. Of memory that is copied over itself it knows no values any more. Some 25 ns, there only.
 */
static __always_inline void bh_forget_values(const void* memory, __u32 size)
{
    if (follow_each_call)
        bpf_probe_read_kernel((void*)memory, size, memory);
}

/*
 * Both planes. The active one decides, the shadow one only reports. A role without a plane allows, NO_POLICY. Inlined
 * where the call stack is at its limit of eight.
 */
static __always_inline void bh_judge_inlined(const struct bh_question* question, struct bh_answer* answer)
{
    struct bh_plane_answer plane = {};

    bh_forget_values(question, sizeof(*question));
    __builtin_memset(answer, 0, sizeof(*answer)); /* allowed, NO_POLICY */
    if (question->control.active_slot != BH_SLOT_NONE) {
        bh_judge_plane(question, question->control.active_slot, &plane);
        answer->verdict = plane.verdict;
        answer->reason = plane.reason;
        answer->peer_class = plane.peer_class;
        answer->on_time = plane.on_time;
    }
    if (question->control.shadow_slot != BH_SLOT_NONE) {
        bh_judge_plane(question, question->control.shadow_slot, &plane);
        answer->shadow_verdict = plane.verdict;
        answer->shadow_reason = plane.reason;
        answer->shadow_peer_class = plane.peer_class;
        answer->on_time |= plane.on_time;
    }
    if (BH_UNLIKELY(question->control.flags & BH_CONTROL_QUARANTINE))
        bh_blame_quarantine(answer);
    bh_forget_values(answer, sizeof(*answer));
}

/* Not static: verified once, and what comes after it not once for each way through it. */
__noinline int bh_judge(const struct bh_question* question, struct bh_answer* answer)
{
    if (question && answer)
        bh_judge_inlined(question, answer);
    return 0;
}

/* `slot`: that of a role. Whether a segment of its plane has a stance in this direction. */
static __always_inline int bh_role_enforces(__u32 slot, __u8 direction)
{
    const struct bh_plane_info* info = slot != BH_SLOT_NONE ? bpf_map_lookup_elem(&bh_plane_info, &slot) : NULL;
    return info && info->default_action[direction & 1] != BH_DEFAULT_NONE;
}

/* What passes. Denials are counted where they are told (bh_tell_denied), so that no count is without its record. */
static __always_inline void bh_count_verdict(const struct bh_answer* answer, __u8 direction)
{
    if (answer->verdict == BH_ALLOWED)
        bh_count(direction == BH_INBOUND ? BH_COUNT_ALLOWED_IN : BH_COUNT_ALLOWED_OUT);
}

#endif
