/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The exchange that a packet is part of: entered, found again, refused; and the packet's verdict by it. */
#ifndef BULKHEAD_BPF_GUARD_EXCHANGES_H
#define BULKHEAD_BPF_GUARD_EXCHANGES_H

#include "bpf/guard/judge.h"

/*
 * Whether an entry spares a verdict, and no more: no answer comes that asks for it, or the active plane would let it
 * pass anyway. What comes in by UDP is for many here, and to a ping the kernel's own answer passes. Not static:
 * verified once, which with its calls of the verdict counts before 5.12.
 */
__noinline int bh_answers_pass_anyway(void)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return 0;
    struct bh_plane_answer answer = {};
    __u32 slot = work->question.control.active_slot, on_time = 0;
    __u8 protocol = work->key.protocol, asked_by = work->icmp_type, by_process = work->by_process;
    int typed = protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
    if (slot == BH_SLOT_NONE || bh_is_multicast(&work->key.to) ||
        (work->direction == BH_INBOUND && (typed || protocol == IPPROTO_UDP)) ||
        (typed && bh_icmp_answer_to(asked_by) == BH_ICMP_NO_ANSWER))
        return 1;
    struct bh_class_vector classes = work->question.classes;
    work->by_process = 0; /* who answers is not who began */
    bh_turn_round(&work->key);
    if (typed)
        work->icmp_type = bh_icmp_answer_to(asked_by);
    if (work->direction != BH_OUTBOUND) {
        bh_ask_about_exchange(work, BH_OUTBOUND);
        bh_judge_plane(&work->question, slot, &answer);
        on_time = answer.on_time;
    }
    if (work->direction != BH_INBOUND && answer.verdict == BH_ALLOWED) {
        bh_ask_about_exchange(work, BH_INBOUND);
        bh_judge_plane(&work->question, slot, &answer);
    }
    bh_turn_round(&work->key);
    work->icmp_type = asked_by;
    work->by_process = by_process;
    bh_ask_about_exchange(work, work->direction == BH_INBOUND ? BH_INBOUND : BH_OUTBOUND);
    work->question.classes = classes;
    return answer.verdict == BH_ALLOWED && !(on_time | answer.on_time); /* for as long as the entry lasts */
}

/* Of a user who is known, else of the address. */
static __always_inline __u32 bh_share_of_beginner(const struct bh_guard_work* work)
{
    return work->subject.cgroup_id ? (__u32)bh_share_of_user(work->subject.uid) : bh_share_of_peer(&work->key.from);
}

static __always_inline __u8 bh_marks_of(const struct bh_guard_work* work)
{
    return (work->by_process ? BH_AGAIN_BY_PROCESS : 0) | (work->answer.on_time ? BH_AGAIN_ON_TIME : 0) |
           work->opened_here;
}

/* One that was let pass again: in place, so that no memory is asked for. False: it has to be entered. */
static __noinline int bh_renew_exchange(struct bh_guard_work* work)
{
    __u32 generation = work->question.control.generation;
    struct bh_exchange* held = bh_kept_exchange(&work->key);
    if (!held) {
        held = bpf_map_lookup_elem(&bh_spare_exchanges, &work->key);
        if (!held || held->generation != generation)
            return 0;
    }
    if (!bh_exchange_lives(&work->key, held, work->now)) {
        held->opened_ns = work->now;
        held->answered = 0;
    }
    held->direction = work->direction;
    held->icmp_type = work->icmp_type;
    held->marks = bh_marks_of(work);
    held->generation = generation;
    held->last_ns = work->now;
    return 1;
}

/* False: there is no room. */
static __noinline int bh_enter_exchange(struct bh_guard_work* work, int is_spare)
{
    struct bh_exchange exchange = {.opened_ns = work->now, .last_ns = work->now};
    exchange.generation = work->question.control.generation;
    exchange.direction = work->direction;
    exchange.icmp_type = work->icmp_type;
    exchange.marks = bh_marks_of(work);
    if (is_spare) {
        bpf_map_update_elem(&bh_spare_exchanges, &work->key, &exchange, BPF_ANY);
        return 1;
    }
    if (bh_take_exchange_place(&work->key, bh_share_of_beginner(work)) &&
        bpf_map_update_elem(&bh_exchanges, &work->key, &exchange, BPF_ANY) == 0)
        return 1;
    bh_count(BH_COUNT_EXCHANGES_FULL);
    return 0;
}

/* False: there is no room, and the answer needs it. */
static __always_inline int bh_remember_exchange(struct bh_guard_work* work)
{
    return bh_renew_exchange(work) ||
           bh_enter_exchange(work, work->key.protocol == IPPROTO_TCP || bh_answers_pass_anyway());
}

static __noinline void bh_forget_exchange(const struct bh_exchange_key* key)
{
    if (key->protocol != IPPROTO_TCP)
        bpf_map_delete_elem(&bh_exchanges, key);
    bpf_map_delete_elem(&bh_spare_exchanges, key);
}

/* A forwarded connection that is refused must not become one of which nobody knows who began it. */
static __noinline int bh_refuse_exchange(struct bh_guard_work* work)
{
    struct bh_exchange* held = NULL;
    if (work->opened_here && work->direction == BH_FORWARDED)
        held = bpf_map_lookup_elem(&bh_spare_exchanges, &work->key);
    if (held && (held->marks & BH_OPENED_HERE))
        held->marks |= BH_REFUSED_SINCE;
    else
        bh_forget_exchange(&work->key);
    return 0;
}

/* A new connection between the ends of one that was refused, the other way: what answers it is no part of that. */
static __noinline int bh_forget_refused_answers(struct bh_guard_work* work)
{
    bh_turn_round(&work->key);
    const struct bh_exchange* held = bpf_map_lookup_elem(&bh_spare_exchanges, &work->key);
    if (held && (held->marks & BH_REFUSED_SINCE))
        bh_forget_exchange(&work->key);
    bh_turn_round(&work->key);
    return 0;
}

static __always_inline void bh_fragments_of(const struct bh_packet* packet, struct bh_fragment_key* key)
{
    key->from = packet->source;
    key->to = packet->destination;
    key->identification = packet->identification;
    key->protocol = packet->fragment_protocol;
    __builtin_memset(key->pad, 0, sizeof(key->pad));
}

static __noinline int bh_expect_fragments(struct bh_guard_work* work)
{
    struct bh_fragment_key key;
    if (!work->packet.fragmented || work->packet.headless)
        return 0;
    bh_fragments_of(&work->packet, &key);
    bpf_map_update_elem(&bh_fragments, &key, &work->now, BPF_ANY);
    return 0;
}

static __noinline int bh_fragment_is_expected(struct bh_guard_work* work)
{
    struct bh_fragment_key key;
    if (!work->packet.headless)
        return 0;
    bh_fragments_of(&work->packet, &key);
    const __u64* passed = bpf_map_lookup_elem(&bh_fragments, &key);
    return passed && (__s64)(work->now - *passed) < (__s64)BH_FRAGMENTS_LAST_NS;
}

/*
 * The exchange that this packet goes on with; work->key, icmp_type and direction become those of its beginning. What
 * opens a connection is no answer: anybody on the network can have sent the other way, in the name of who is to be
 * reached, what policy lets that one begin.
 */
static __noinline int bh_find_exchange(struct bh_guard_work* work)
{
    int typed = !work->headless && (work->key.protocol == IPPROTO_ICMP || work->key.protocol == IPPROTO_ICMPV6);
    int opens = !work->headless && bh_is_opening_segment(&work->packet);
    struct bh_exchange* exchange = bh_live_exchange(&work->key, work->now);
    work->opened_here = opens ? BH_OPENED_HERE : 0;
    if (exchange && (!typed || exchange->icmp_type == work->icmp_type)) {
        work->opened_here |= exchange->marks & BH_OPENED_HERE;
        /* What was let pass for its process is so for no other, and what expires not for ever. */
        if ((exchange->marks & ~BH_OPENED_HERE) || exchange->generation != work->question.control.generation)
            return BH_EXCHANGE_KNOWN;
        if (opens && !exchange->marks)
            exchange->marks = BH_OPENED_HERE;
        return BH_EXCHANGE_SETTLED;
    }
    if (opens)
        return BH_EXCHANGE_NEW;
    bh_turn_round(&work->key);
    exchange = bh_live_exchange(&work->key, work->now);
    if (exchange && (!typed || bh_icmp_answer_to(exchange->icmp_type) == work->icmp_type)) {
        if (!exchange->answered)
            exchange->answered = 1;
        work->icmp_type = exchange->icmp_type;
        work->direction = exchange->direction;
        work->opened_here = exchange->marks & BH_OPENED_HERE;
        __u8 again = exchange->marks & ~BH_OPENED_HERE;
        if ((!again || (again & BH_AGAIN_BY_PROCESS)) && exchange->generation == work->question.control.generation)
            return BH_EXCHANGE_SETTLED;
        work->by_process = 0; /* who answers is not who began */
        return BH_EXCHANGE_KNOWN;
    }
    bh_turn_round(&work->key);
    return BH_EXCHANGE_NEW;
}

/*
 * A segment of a forwarded connection of which nobody knows who began it, since that was before policy was in force:
 * for as long after that as a silent connection is remembered. What would begin one, or ask whether a port is open, is
 * none.
 */
static __noinline int bh_may_be_an_answer(const struct bh_guard_work* work)
{
    __u32 zero = 0;
    if (work->direction != BH_FORWARDED || work->opened_here || work->packet.protocol != IPPROTO_TCP ||
        (work->packet.tcp_flags & (BH_TCP_SYN | BH_TCP_ACK)) != BH_TCP_ACK)
        return 0;
    const __u64* since = bpf_map_lookup_elem(&bh_in_force_since, &zero);
    return since && *since && (__s64)(work->now - *since) < (__s64)BH_EXCHANGE_TCP_IDLE_NS;
}

static __noinline int bh_turn_key(struct bh_guard_work* work)
{
    bh_turn_round(&work->key);
    return 0;
}

/*
 * True when the other end may have begun it. It passes, and no more: with the next segment of that end the exchange is
 * entered as it is.
 */
static __always_inline int bh_passes_as_answer(struct bh_guard_work* work)
{
    if (!(work->answer.verdict | work->answer.shadow_verdict) || !bh_may_be_an_answer(work))
        return 0;
    bh_turn_key(work);
    bh_judge_exchange();
    work->turned = work->answer;
    bh_turn_key(work);
    bh_judge_exchange(); /* what is told is the packet as it came */
    if (!(work->answer.verdict & work->turned.verdict) && !(work->answer.shadow_verdict & work->turned.shadow_verdict))
        return 1;
    if (work->answer.verdict == BH_ALLOWED || work->turned.verdict == BH_DENIED)
        return 0;
    work->answer.verdict = BH_ALLOWED;
    work->answer.reason = work->turned.reason;
    bh_tell_packet_denied();
    return 1;
}

/*
 * Judges a packet that belongs to no socket's conversation. An answer to an exchange that was let pass is let pass; a
 * policy that has changed since is asked again about the exchange, not about the answer.
 */
__noinline int bh_judge_packet(__u32 direction)
{
    struct bh_guard_work* work = bh_current_work();
    if (!work)
        return BH_GUARD_PASS;
    if (bh_fragment_is_expected(work))
        return BH_GUARD_PASS;
    bh_take_as_first(work);
    work->direction = (__u8)direction;
    int found = bh_find_exchange(work);
    if (found == BH_EXCHANGE_SETTLED) {
        bh_expect_fragments(work);
        return BH_GUARD_PASS;
    }
    bh_judge_exchange();
    if (bh_passes_as_answer(work)) {
        bh_forget_exchange(&work->key); /* entered the wrong way round, perhaps */
        bh_expect_fragments(work);
        return BH_GUARD_PASS;
    }
    bh_count_verdict(&work->answer, work->direction);
    if (work->answer.verdict == BH_DENIED && !work->by_process) /* else it may be another process's */
        bh_refuse_exchange(work);
    if (work->answer.verdict == BH_ALLOWED && !bh_remember_exchange(work)) {
        work->answer.verdict = BH_DENIED;
        work->answer.reason = BH_REASON_FULL;
    }
    if (work->answer.verdict == BH_DENIED || work->answer.shadow_verdict == BH_DENIED)
        bh_tell_packet_denied();
    if (work->answer.verdict == BH_DENIED)
        return BH_GUARD_DROP;
    if (found == BH_EXCHANGE_NEW) {
        if (work->opened_here)
            bh_forget_refused_answers(work);
        bh_tell_exchange(work);
    }
    bh_expect_fragments(work);
    return BH_GUARD_PASS;
}

#endif
