/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A packet before the planes: the question that it is, who sends it, and what is told when it is refused. */
#ifndef BULKHEAD_BPF_GUARD_JUDGE_H
#define BULKHEAD_BPF_GUARD_JUDGE_H

#include "bpf/denials.h"
#include "bpf/guard/flows.h"
#include "bpf/guard/unfinished.h"
#include "bpf/subject.h"

/* The next program or filter of the interface goes on; others' are left alone. */
#define BH_GUARD_PASS TC_ACT_UNSPEC
#define BH_GUARD_DROP TC_ACT_SHOT

/* What one look at a packet needs; too much for the stack. */
struct bh_guard_work {
    struct bh_packet packet, quoted;
    struct bh_exchange_key key; /* of the exchange, as its first packet had it */
    __u8 icmp_type;             /* of that packet */
    __u8 headless;
    __u8 direction; /* enum bh_direction */
    __u8 by_process;
    __u8 opened_here; /* BH_OPENED_HERE, or 0 */
    struct bh_question question;
    struct bh_answer answer, turned; /* the latter: to the same packet as an answer; here to spare the stack */
    struct bh_subject subject;
    struct bh_cgroup_path cgroups;
    __u64 now;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct bh_guard_work));
} bh_guard_work SEC(".maps");

/*
 * Functions that are not static are verified once, not again for every way that leads to them (Linux 5.6); that halves
 * what it takes to load the guard. They can be given the context and numbers, so they find the work by themselves. No
 * chain of calls may be longer than eight, the program and the plane's judge and stages counted (MAX_CALL_FRAMES).
 */
static __always_inline struct bh_guard_work* bh_current_work(void)
{
    __u32 zero = 0;
    return bpf_map_lookup_elem(&bh_guard_work, &zero);
}

static __always_inline struct bh_guard_work* bh_begin_work(void)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return NULL;
    work->question.control = bh_read_control();
    work->now = bpf_ktime_get_ns();
    work->by_process = 0;
    work->subject.pid = 0; /* whoever reads the rest asks for this first */
    work->subject.cgroup_id = 0;
    work->subject.uid = 0;
    work->subject.exe_inode = 0;
    work->subject.exe_device = 0;
    work->subject.comm[0] = 0;
    return work;
}

__noinline int bh_read_packet(struct __sk_buff* skb, __u32 link)
{
    struct bh_guard_work* work = bh_current_work();
    return work ? bh_parse_packet(skb, &work->packet, link) : 0;
}

/* So that what is judged is what is sent (unfinished.h). */
__noinline int bh_read_for_good(struct __sk_buff* skb, __u32 link)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return 0;
    int failed = bh_make_private(skb) < 0;
    bh_read_packet(skb, link);
    if (skb->gso_size && !bh_is_cut_as_read(skb, &work->packet, link))
        failed = 1;
    /* Headers that are longer than what was taken, and not in the packet's own memory, are nobody's in good faith. */
    if (failed || !bh_is_private(skb, &work->packet) ||
        !bh_checksum_is_in_place(&work->packet, bh_place_of_checksum(skb)))
        work->packet.kind = BH_FRAME_MALFORMED;
    return 0;
}

/* Begins the long look; NULL when there is nothing to look for. */
static __always_inline struct bh_guard_work* bh_look(struct __sk_buff* skb, __u32 link)
{
    struct bh_guard_work* work = bh_begin_work();
    bh_count(BH_COUNT_GUARD_PACKETS);
    if (!work || bh_nothing_in_force(work->question.control))
        return NULL;
    bh_read_for_good(skb, link);
    return work;
}

/* The question about one direction of the exchange in work->key. */
static __always_inline void bh_ask_about_exchange(struct bh_guard_work* work, __u8 direction)
{
    struct bh_question* question = &work->question;
    const struct bh_exchange_key* key = &work->key;
    question->remote = direction == BH_OUTBOUND ? key->to : key->from;
    question->direction = direction;
    question->port_unknown = work->headless;
    question->protocol = key->protocol;
    if (key->protocol == IPPROTO_TCP || key->protocol == IPPROTO_UDP) {
        question->port = key->to_port;
    } else if (key->protocol == IPPROTO_ICMP || key->protocol == IPPROTO_ICMPV6) {
        question->port = work->icmp_type;
    } else {
        question->protocol = BH_PROTOCOL_OTHER;
        question->port = key->protocol;
        question->port_unknown = 0;
    }
    if (!work->by_process)
        bh_only_any_process(&question->classes);
}

/* Both planes' answer about the exchange, into work->answer. A forwarded one must pass inbound and outbound. */
__noinline int bh_judge_exchange(void)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return 0;
    struct bh_answer first;
    if (work->direction != BH_FORWARDED) {
        bh_ask_about_exchange(work, work->direction);
        bh_judge_inlined(&work->question, &work->answer);
        return 0;
    }
    bh_ask_about_exchange(work, BH_INBOUND);
    bh_judge_inlined(&work->question, &work->answer);
    if (work->answer.verdict == BH_DENIED && work->answer.shadow_verdict == BH_DENIED)
        return 0;
    first = work->answer;
    bh_ask_about_exchange(work, BH_OUTBOUND);
    bh_judge_inlined(&work->question, &work->answer);
    if (first.verdict == BH_DENIED) {
        work->answer.verdict = BH_DENIED;
        work->answer.reason = first.reason;
        work->answer.peer_class = first.peer_class;
    }
    if (first.shadow_verdict == BH_DENIED) {
        work->answer.shadow_verdict = BH_DENIED;
        work->answer.shadow_reason = first.shadow_reason;
        work->answer.shadow_peer_class = first.shadow_peer_class;
    }
    work->answer.on_time |= first.on_time;
    return 0;
}

static __always_inline void bh_describe_exchange(struct bh_event* event, const struct bh_guard_work* work)
{
    const struct bh_exchange_key* key = &work->key;
    int inward = work->direction == BH_INBOUND;
    bh_describe_verdict(event, &work->question, &work->answer);
    event->direction = work->direction;
    event->protocol = key->protocol;
    event->local = inward ? key->to : key->from;
    event->netns = guarded_netns;
    event->remote = inward ? key->from : key->to;
    event->icmp_type = work->icmp_type;
    if (key->protocol == IPPROTO_TCP || key->protocol == IPPROTO_UDP) {
        event->local_port = inward ? key->to_port : key->from_port;
        event->remote_port = inward ? key->from_port : key->to_port;
    }
    event->subject = work->subject;
}

__noinline int bh_tell_packet_denied(void)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return 0;
    const struct bh_exchange_key* key = &work->key;
    int inward = work->direction == BH_INBOUND;
    struct bh_attempt attempt = {.protocol = key->protocol,
                                 .direction = work->direction,
                                 .icmp_type = work->icmp_type,
                                 .icmp_code = work->packet.icmp_code};
    attempt.local = work->question.direction == BH_OUTBOUND ? key->from : key->to;
    if (work->direction != BH_OUTBOUND)
        attempt.netns = guarded_netns;
    if (key->protocol == IPPROTO_TCP || key->protocol == IPPROTO_UDP) {
        attempt.local_port = inward ? key->to_port : key->from_port;
        attempt.remote_port = inward ? key->from_port : key->to_port;
    }
    int known = work->subject.pid || work->subject.cgroup_id;
    return bh_tell_denied(&work->question, &work->answer, &attempt, known ? &work->subject : NULL);
}

static __always_inline void bh_tell_exchange(const struct bh_guard_work* work)
{
    struct bh_event* event = bh_reserve_flow_event(BH_EVENT_EXCHANGE);
    if (!event)
        return;
    bh_describe_exchange(event, work);
    event->cookie = work->key.from_port; /* of an echo, its identifier: what makes the key whole */
    event->icmp_code = work->packet.icmp_code;
    bh_submit_flow_event(event);
}

/*
 * What no rule can allow: spoofed, routed by its source, not readable. Refused where a segment of this host enforces,
 * reported where one tests, and nobody's business else.
 */
__noinline int bh_refuse_packet(__u32 direction)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_GUARD_PASS;
    struct bh_control control = work->question.control;
    int strict = bh_role_enforces(control.active_slot, direction);
    int would = bh_role_enforces(control.shadow_slot, direction);
    if (!strict && !would)
        return BH_GUARD_PASS;
    work->direction = (__u8)direction;
    bh_ask_about_exchange(work, direction);
    __builtin_memset(&work->answer, 0, sizeof(work->answer));
    work->answer.verdict = strict ? BH_DENIED : BH_ALLOWED;
    work->answer.reason = strict ? BH_REASON_MALFORMED : BH_REASON_NO_POLICY;
    work->answer.shadow_verdict = would ? BH_DENIED : BH_ALLOWED;
    work->answer.shadow_reason = would ? BH_REASON_MALFORMED : BH_REASON_NO_POLICY;
    bh_count_verdict(&work->answer, direction);
    bh_tell_packet_denied();
    return strict ? BH_GUARD_DROP : BH_GUARD_PASS;
}

/* work->key from the packet, for an exchange that this packet would begin. */
static __always_inline void bh_take_as_first(struct bh_guard_work* work)
{
    bh_exchange_of(&work->packet, &work->key);
    work->icmp_type = work->packet.icmp_type;
    work->headless = work->packet.headless;
}

#endif
