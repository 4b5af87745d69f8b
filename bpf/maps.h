/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Every map. Writers: "kernel" is a program of ours, "agent" is the daemon. */
#ifndef BULKHEAD_BPF_MAPS_H
#define BULKHEAD_BPF_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "common/abi/bulkhead.h"

/* Load-time constants; the agent fills them before the programs are loaded. */

/* The enforced cgroup is the root of the hierarchy: every inbound packet is in scope, also to closed ports. */
const volatile __u8 scope_is_root = 0;
/* Inode number of the network namespace that the agent guards (stat of /proc/self/ns/net). */
const volatile __u32 guarded_netns = 0;

/* Where the enforced cgroup is: the id, and how deep below the root. Packets of sockets outside of it are not judged.
 */
const volatile __u64 scope_cgroup = 0;
const volatile __u32 scope_level = 0;
/*
 * What belongs to no socket (pings that come, forwarded packets, multicast) is judged: the scope is the root, or the
 * namespace is one of its own, so that nobody else lives in it.
 */
const volatile __u8 guard_namespace = 0;
/* Of inet_sock.inet_flags: those by which a socket may bind to what is not the host's address. 0: not known. */
const volatile __u64 foreign_source_bits = 0;
/* That one of them which takes a privilege: IP_TRANSPARENT. */
const volatile __u64 transparent_bit = 0;
/* From the variable `runqueues` of a CPU, a struct rq, to its preempt_count(), in bytes. 0: not known. */
const volatile __s64 preempt_count_from_runqueues = 0;
/* A refused attempt from outside gets no answer at all, rather than a reset or port unreachable. */
const volatile __u8 refuse_silently = 0;

/* A walk may ask for cookies (bpf_get_socket_cookie() in iterators, Linux 5.12). Else the agent has them given before.
 */
const volatile __u8 cookies_in_walk = 0;

/* The verifier follows each call of a function that takes pointers, with what the caller knows (before Linux 5.12). */
const volatile __u8 follow_each_call = 0;

/*
 * IPv4 broadcast addresses of the guarded interfaces' networks (network byte order; 0: none): such a datagram passes no
 * sk_lookup. What does not fit sets subnet_broadcasts_more: then every datagram is looked at closely. Writer: agent.
 */
volatile __u32 subnet_broadcasts[BH_SUBNET_BROADCASTS];
volatile __u8 subnet_broadcasts_more;
/* The namespace routes between interfaces, so that what arrives may be for others. Writer: agent. */
volatile __u8 host_forwards;

/* Of the marks on what the guard has judged (guard/mark.h): programs of before and after a restart share it. Writer:
 * agent, once. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct bh_mark_secret);
} bh_mark_secret SEC(".maps");

/* Bits bh_own_filter_bit() that no address in bh_own_addresses has. Writer: agent. */
volatile __u64 not_own_addresses[BH_OWN_FILTER_BITS / 64];

/* An interface takes IPv4 from outside that says to come from this host (net.ipv4.conf.*.accept_local). Writer: agent.
 */
volatile __u8 host_accepts_own;

/* Any socket may bind to what is not the host's address (net.ipv[46].ip_nonlocal_bind). Writer: agent. */
volatile __u8 host_binds_anywhere;

/* The switch. One struct bh_control; mapped by the agent, which writes it with one 64-bit store. Writer: agent. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct bh_control);
} bh_control SEC(".maps");

/* Slot -> what the plane in it is. Writer: agent, while the slot is in neither role. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BH_SLOTS);
    __type(key, __u32);
    __type(value, struct bh_plane_info);
} bh_plane_info SEC(".maps");

/*
 * The planes. Each outer map holds one inner map a slot; absent where the slot is free. The agent builds inner maps
 * aside, sized to their content, and frees them when the slot leaves both roles. Writer: agent.
 * (Sizes instead of types: clang emits only forward declarations for types this deep, and libbpf needs the size.)
 */

/* Single address, known or in a rule -> peer class. */
struct bh_peers_inner {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(struct bh_address));
    __uint(value_size, sizeof(__u32));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, BH_SLOTS);
    __type(key, __u32);
    __array(values, struct bh_peers_inner);
} bh_plane_peers SEC(".maps");

/* Wider prefix -> peer class of all other addresses; asked only when plane_info.has_prefixes. */
struct bh_prefixes_inner {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(struct bh_prefix_key));
    __uint(value_size, sizeof(__u32));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, BH_SLOTS);
    __type(key, __u32);
    __array(values, struct bh_prefixes_inner);
} bh_plane_prefixes SEC(".maps");

/* Direction and protocol -> port classes of all ports; 512 KiB a plane. */
struct bh_ports_inner {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BH_PORT_TABLES);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct bh_port_classes));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, BH_SLOTS);
    __type(key, __u32);
    __array(values, struct bh_ports_inner);
} bh_plane_ports SEC(".maps");

/* Peer class, port class, protocol, direction -> what the policy says of it. */
struct bh_entries_inner {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(struct bh_entry_key));
    __uint(value_size, sizeof(struct bh_entry));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, BH_SLOTS);
    __type(key, __u32);
    __array(values, struct bh_entries_inner);
} bh_plane_entries SEC(".maps");

/*
 * Property of a process -> classes. Both planes of one realisation share one inner map. Room for rows that come while
 * the plane is in force (a new container, an upgraded executable); allocated as used.
 */
#define BH_FACET_ROWS 65536
struct bh_facets_inner {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, BH_FACET_ROWS);
    __uint(key_size, sizeof(struct bh_facet_key));
    __uint(value_size, sizeof(struct bh_class_vector));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, BH_SLOTS);
    __type(key, __u32);
    __array(values, struct bh_facets_inner);
} bh_plane_facets SEC(".maps");

/*
 * Network namespaces beside the agent's own: those that are followed (BH_NAMESPACES), and those of which the agent was
 * told. 1024; of what does not fit the agent is not told, and finds it when it looks by itself. Writers: kernel, agent.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1024);
    __type(key, __u32);
    __type(value, struct bh_namespace);
} bh_namespaces SEC(".maps");

/* From the gate of another namespace to the program that it calls: where we are. Writer: the gates. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} bh_gate SEC(".maps");

/* What the gates call: bh_sk_lookup_elsewhere of the agent that runs, or ran last. Writer: agent. */
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} bh_gate_program SEC(".maps");

/*
 * Who is bound where, in the enforced cgroup, in every namespace. 16384 bound (address, port) pairs; what does
 * not fit is counted (listeners_full) and judged as a port without a listener. Writers: kernel (bind, listen, release),
 * agent (sockets that were there before it).
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, BH_LISTENERS);
    __type(key, struct bh_listener_key);
    __type(value, struct bh_listener);
} bh_listeners SEC(".maps");

/* How many of these rows are counted for whom (bh_holder_of). Writers: kernel; the agent corrects it at each walk. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BH_HOLDERS);
    __type(key, __u32);
    __type(value, __s32);
} bh_listener_holders SEC(".maps");

/*
 * Conversations of unconnected UDP sockets, those that this host began and those that others did. A new one takes the
 * place of one that has ended, by a ring of places (udp_flows.h); room beside the places is for the moment between two
 * CPUs. Writers: kernel; the agent deletes.
 */
#define BH_UDP_TABLE(name)                                                                                             \
    struct {                                                                                                           \
        __uint(type, BPF_MAP_TYPE_HASH);                                                                               \
        __uint(max_entries, BH_UDP_FLOWS + 1024);                                                                      \
        __type(key, struct bh_udp_flow_key);                                                                           \
        __type(value, struct bh_udp_flow);                                                                             \
    } name SEC(".maps");                                                                                               \
    struct {                                                                                                           \
        __uint(type, BPF_MAP_TYPE_ARRAY);                                                                              \
        __uint(max_entries, BH_UDP_FLOWS);                                                                             \
        __type(key, __u32);                                                                                            \
        __type(value, struct bh_udp_flow_key);                                                                         \
    } name##_places SEC(".maps")

BH_UDP_TABLE(bh_udp_out);
BH_UDP_TABLE(bh_udp_in);

/* Where the next place is looked for, by who begins (enum bh_direction). Writer: kernel. */
volatile __u32 udp_hand[2];

/*
 * Exchanges that the guard let pass, and whose answers need that known. None that lives is pushed out: places as above
 * (guard/flows.h). Writers: kernel; the agent deletes.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, BH_EXCHANGES + 1024);
    __type(key, struct bh_exchange_key);
    __type(value, struct bh_exchange);
} bh_exchanges SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BH_EXCHANGES);
    __type(key, __u32);
    __type(value, struct bh_exchange_key);
} bh_exchange_places SEC(".maps");

volatile __u32 exchange_hand;

/*
 * Those whose answers pass without, and of TCP, of which nobody sees the end: the least recently used goes first. What
 * the other end of a connection sends then is refused until this end goes on, and repeated. Writers: kernel; the agent
 * deletes.
 */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, BH_SPARE_EXCHANGES);
    __type(key, struct bh_exchange_key);
    __type(value, struct bh_exchange);
} bh_spare_exchanges SEC(".maps");

/*
 * What was forwarded with the host's own address for its source (guard/translated.h). 16384, the least recently used
 * goes first: what answers it is judged as what comes by itself. Writer: kernel.
 */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct bh_exchange_key);
    __type(value, struct bh_translated);
} bh_translated SEC(".maps");

/*
 * CLOCK_MONOTONIC: when policy began to refuse here, or to report, and did not before; 0: nobody knows. Connections
 * that pass through this host may be older, and are remembered as far as they have been seen since. Writer: agent.
 */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} bh_in_force_since SEC(".maps");

/* Packets in pieces whose first was let pass. 16384, the least recently used goes first: its later pieces are judged by
 * what is said of all ports. Writer: kernel. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct bh_fragment_key);
    __type(value, __u64);
} bh_fragments SEC(".maps");

/*
 * Addresses of the guarded namespace and of those that are followed, each with bits of enum bh_own_address. 4096; more:
 * the agent cannot bring the guard up to date, and those that are not in here count as another's. Writer: agent.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 4096);
    __type(key, struct bh_address);
    __type(value, __u8);
} bh_own_addresses SEC(".maps");

/* Addresses with BH_OWN_ELSEWHERE, by namespace. 4096; more: they are peers to themselves. Writer: agent. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 4096);
    __type(key, struct bh_own_key);
    __type(value, __u8);
} bh_own_elsewhere SEC(".maps");

#define BH_ASKED_PEERS 4 /* that a socket has had last */

/*
 * What the doors were asked about a socket that connects by UDP. That a packet goes to its socket's peer does not say
 * it: send(2) holds no lock, and may take the address of one peer and the port of the next (udp_sendmsg,
 * udpv6_sendmsg). Written under the socket's lock.
 */
struct bh_asked {
    __u32 writes; /* odd while one is under way */
    __u16 port[BH_ASKED_PEERS];
    struct bh_address address[BH_ASKED_PEERS];
    /*
     * It was let go to an address of its namespace's own, in another namespace than the agent's, whose administrator
     * may route that elsewhere, and take it away before a packet leaves.
     */
    __u16 to_own;
    __u16 answered; /* bits: which of these peers it was connected to last as an answer of what came from them */
};

/* One row a socket, and gone with it. */
struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct bh_asked);
} bh_asked_peers SEC(".maps");

/* Set while the guard asks for a socket: sk_lookup is run by that, and must not take it for an arrival. Writer: kernel.
 */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} bh_guard_asks SEC(".maps");

/* Flow events; 8 MiB hold 55,000 to 60,000, 0.4 seconds at 45,000 connections a second. Writer: kernel; never wakes. */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 8 * 1024 * 1024);
} bh_flow_ring SEC(".maps");

/*
 * The first denial of each kind, at once; 2 MiB hold 11,000. A ring of their own, so that a flood of either kind does
 * not cost the other. What finds no room is counted in the table like the second one. Writer: kernel.
 */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 2 * 1024 * 1024);
} bh_deny_ring SEC(".maps");

/*
 * Denials and how often. Two tables: programs count in one while the agent reads the other, so that no count is lost
 * between a reading and a deletion. 16384 kinds each, allocated at load (5 MiB each); how many may come in a second is
 * bounded in denials.h, and what finds no place is counted in bh_denials_rest. Writers: kernel; the agent puts the
 * tables into bh_denials, and empties the one that nobody counts in.
 */
#define BH_DENIALS 16384
struct bh_denials_inner {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, BH_DENIALS);
    __uint(key_size, sizeof(struct bh_denial_key));
    __uint(value_size, sizeof(struct bh_denial));
} bh_denials_even SEC(".maps"), bh_denials_odd SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 2);
    __type(key, __u32);
    __array(values, struct bh_denials_inner);
} bh_denials SEC(".maps");

/* Which of the two. Writer: agent. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct bh_denial_turn);
} bh_denial_turn SEC(".maps");

/* Counts of denials that have no place of their own; always has room. Writers: kernel; the agent clears. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2 * BH_DENIAL_REST);
    __type(key, __u32);
    __type(value, struct bh_denial_rest);
} bh_denials_rest SEC(".maps");

/* enum bh_denial_pool -> how many kinds of denial have come in this second. Writer: kernel. */
struct bh_denial_pool_use {
    __u32 second;
    __u32 entered;
};
enum bh_denial_pool {
    BH_POOL_OUTBOUND,
    BH_POOL_KNOWN_PEERS, /* inbound, from addresses that a plane knows */
    BH_POOL_OTHER_PEERS, /* inbound, from whom a flood of forged sources may be */
    BH_POOL_FORWARDED,
    BH_POOLS
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, BH_POOLS);
    __type(key, __u32);
    __type(value, struct bh_denial_pool_use);
} bh_denial_pools SEC(".maps");

/* When this CPU last woke the reader of bh_deny_ring (CLOCK_MONOTONIC). Writer: kernel. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} bh_deny_wakeup SEC(".maps");

/* enum bh_counter -> count, a CPU. Writer: kernel. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, BH_COUNTERS);
    __type(key, __u32);
    __type(value, __u64);
} bh_counters SEC(".maps");

static __always_inline void bh_count(enum bh_counter counter)
{
    __u32 key = counter;
    __u64* count = bpf_map_lookup_elem(&bh_counters, &key);
    if (count)
        *count += 1;
}

#endif
