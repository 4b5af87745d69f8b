/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Destroys UDP sockets that a walk comes by, each for itself: sock_diag(7) finds one by its ends, which others may
 * share. An object of its own, loaded when it is needed: before Linux 6.5 the kernel lacks what it calls.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/ends.h"

extern int bpf_sock_destroy(struct sock_common* socket) __ksym;

/* By cookie. The agent puts in no more than there is room for, and takes out what is left. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, BH_CONDEMNED_SOCKETS);
    __type(key, __u64);
    __type(value, struct bh_condemned_socket);
} bh_condemned SEC(".maps");

SEC("iter/udp")
int bh_destroy_udp(struct bpf_iter__udp* ctx)
{
    struct udp_sock* udp = ctx->udp_sk;
    if (!udp)
        return 0;
    struct sock_common* common = (struct sock_common*)udp;
    __u64 cookie = (__u64)common->skc_cookie.counter;
    const struct bh_condemned_socket* condemned = bpf_map_lookup_elem(&bh_condemned, &cookie);
    if (!condemned)
        return 0;
    /* It may have been connected to another peer since it was judged. */
    struct bh_address remote;
    bh_load_remote(common, &remote);
    if (condemned->remote_port != bpf_ntohs(common->skc_dport) || !bh_is_same(&condemned->remote, &remote))
        return 0;
    if (bpf_sock_destroy(common) == 0)
        bpf_map_delete_elem(&bh_condemned, &cookie);
    return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
