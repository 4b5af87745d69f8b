/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Datagrams that an ICMP error quotes. The kernel looks up whose they were as for a datagram that arrives from where
 * the quoted one went (__udp4_lib_err, __udp6_lib_err), and where some socket hears for a tunnel, a second time with
 * the ports the other way round (__udp4_lib_err_encap). So the inbound door is asked, and cannot see that nothing
 * arrives. The guard, which sees the error a moment before, leaves a mark; what is marked begins no conversation and
 * prolongs none for BH_QUOTED_NS, in which the CPU that has the packet gets to it.
 */
#ifndef BULKHEAD_BPF_QUOTED_H
#define BULKHEAD_BPF_QUOTED_H

#include "bpf/maps.h"

/* Of a packet that may go on to another namespace, so of whichever: netns is 0. */
static __always_inline void bh_mark_quoted(const struct bh_address* remote, __u16 source_port, __u16 destination_port)
{
    struct bh_udp_flow_key key = {.remote = *remote, .remote_port = destination_port, .local_port = source_port};
    __u64 now = bpf_ktime_get_ns();
    bpf_map_update_elem(&bh_quoted, &key, &now, BPF_ANY);
    key.remote_port = source_port;
    key.local_port = destination_port;
    bpf_map_update_elem(&bh_quoted, &key, &now, BPF_ANY);
}

static __noinline int bh_was_quoted(const struct bh_udp_flow_key* key, __u64 now)
{
    struct bh_udp_flow_key anywhere = {
        .remote = key->remote, .remote_port = key->remote_port, .local_port = key->local_port};
    const __u64* marked = bpf_map_lookup_elem(&bh_quoted, &anywhere);
    return marked && (__s64)(now - *marked) < (__s64)BH_QUOTED_NS;
}

#endif
