/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The verdict function itself, run by BPF_PROG_TEST_RUN: for tests, for judging live sessions again, for `why`. As a
 * program of tc, which is attached nowhere: those can be run so on every kernel, SEC("syscall") since 5.14 only.
 */
#include "bpf/loopback.h"
#include "bpf/subject.h"

struct bh_judge_batch bh_judge_batch;

/* Not static: the verifier then proves it once, and not again for each round of the loop that calls it. */
__noinline int bh_judge_call_at(__u32 index)
{
    struct bh_judge_call* call = &bh_judge_batch.call[index & (BH_JUDGE_BATCH - 1)];
    struct bh_question question = {.remote = call->request.remote,
                                   .port = call->request.port,
                                   .protocol = call->request.protocol,
                                   .direction = call->request.direction & 1,
                                   .port_unknown = call->request.port_unknown};
    __u32 netns = call->request.netns ? call->request.netns : guarded_netns;
    struct bh_answer answer = {};

    question.loopback = bh_loopback_of(&question.remote, netns);
    question.control = bh_read_control();
    if (bh_planes_look_at_processes(question.control))
        bh_classes_of_stored(bh_leading_slot(question.control), &call->request.subject, &call->cgroups,
                             &question.classes);
    else
        bh_only_any_process(&question.classes);
    bh_judge(&question, &answer);

    call->request.verdict = answer.verdict;
    call->request.reason = answer.reason;
    call->request.shadow_verdict = answer.shadow_verdict;
    call->request.shadow_reason = answer.shadow_reason;
    call->request.generation = question.control.generation;
    call->request.peer_class = answer.peer_class;
    call->request.shadow_peer_class = answer.shadow_peer_class;
    call->request.loopback = question.loopback;
    call->request.classes = question.classes;
    return 0;
}

SEC("tc")
int bh_judge_program(struct __sk_buff* unused)
{
    __u32 count = bh_judge_batch.count;
    for (__u32 i = 0; i < BH_JUDGE_BATCH && i < count; i++)
        bh_judge_call_at(i);
    return 0;
}
