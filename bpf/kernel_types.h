/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The few kernel structures that no UAPI header shows, reduced to the members that are read. Every access is relocated
 * against the running kernel's BTF (CO-RE), so offsets here mean nothing. All differences between kernels live here.
 */
#ifndef BULKHEAD_BPF_KERNEL_TYPES_H
#define BULKHEAD_BPF_KERNEL_TYPES_H

#include <linux/in6.h>
#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
    unsigned int inum;
};

struct net {
    struct ns_common ns;
    __u64 net_cookie; /* since 5.12; before that an atomic that is filled on demand */
};

typedef struct {
    struct net* net;
} possible_net_t;

struct rtnl_link_ops {
    const char* kind;
};

struct net_device {
    possible_net_t nd_net;
    unsigned int flags;
    unsigned long priv_flags; /* 32 bits of something */
    void* rx_handler;         /* who takes its frames: macvlan, a bridge, a bond, MACsec */
    struct vlan_info* vlan_info;
    const struct rtnl_link_ops* rtnl_link_ops;
};

/* By protocol (802.1Q, 802.1ad) and the upper bits of the number: parts of 512 devices, NULL where none is. BTF knows
 * arrays of one dimension only. */
struct vlan_group {
    unsigned int nr_vlan_devs;
    struct net_device** vlan_devices_arrays[16];
};

struct vlan_info { /* also where no VLAN stands: of VLAN 0, whose frames the hardware is to let pass */
    struct vlan_group grp;
};

/* As newer tools describe the same: VLAN_PROTO_NUM by VLAN_GROUP_ARRAY_SPLIT_PARTS. */
struct vlan_group___in_two {
    struct net_device** vlan_devices_arrays[2][8];
};

struct vlan_info___in_two {
    struct vlan_group___in_two grp;
};

enum netdev_priv_flags {
    IFF_OVS_DATAPATH = 1 << 10,
    IFF_TEAM_PORT = 1 << 13,
    IFF_FAILOVER_SLAVE = 1 << 28,
};

struct dst_entry {
    struct net_device* dev;
};

struct sk_buff {
    struct net_device* dev;
    unsigned long _skb_refdst; /* of a struct dst_entry; bit 0: no reference is held */
    __u8 ip_summed : 2;
    __u16 csum_start; /* from head */
    __u16 csum_offset;
    unsigned char* head;
    unsigned char* data;
};

typedef struct {
    __u32 val;
} kuid_t;

struct kernfs_node {
    __u64 id;
};

struct cgroup_subsys_state {
    struct cgroup_subsys_state* parent;
};

struct cgroup_root {
    int hierarchy_id; /* 0: cgroup v2 */
};

struct cgroup {
    struct cgroup_subsys_state self;
    int level;
    struct kernfs_node* kn;
    struct cgroup_root* root;
    struct cgroup* ancestors[]; /* with itself, by level */
};

struct cgroup___before_6_1 {
    struct cgroup_subsys_state self;
    __u64 ancestor_ids[];
} __attribute__((preserve_access_index));

struct css_set {
    struct cgroup* dfl_cgrp;
};

struct sock_cgroup_data {
    struct cgroup* cgroup;
};

struct sock_cgroup_data___before_5_15 {
    __u64 val; /* the cgroup pointer, when bit 0 is clear */
} __attribute__((preserve_access_index));

struct super_block {
    __u32 s_dev;
};

struct inode {
    unsigned short i_mode;
    unsigned long i_ino;
    struct super_block* i_sb;
};

struct file {
    struct inode* f_inode;
    void* private_data;
};

struct mm_struct {
    struct file* exe_file;
};

struct cred {
    kuid_t uid;
    kuid_t fsuid;
};

struct rq {
    int cpu;
};

struct cfs_rq {
    struct rq* rq; /* CONFIG_FAIR_GROUP_SCHED */
};

struct sched_entity {
    struct cfs_rq* cfs_rq; /* of the CPU that its task is on, whatever the task's class (set_task_rq) */
};

struct task_struct {
    int pid;
    int tgid;
    struct sched_entity se;
    unsigned int flags;
    struct mm_struct* mm;
    const struct cred* cred;
    struct css_set* cgroups;
    char comm[16];
};

struct task_struct___rt {
    int softirq_disable_cnt; /* with CONFIG_PREEMPT_RT alone */
};

struct thread_info___arm64 {
    struct {
        __u32 count;
    } preempt; /* in a union without a name */
};

struct task_struct___arm64 {
    struct thread_info___arm64 thread_info;
};

struct socket {
    struct file* file;
    struct sock* sk;
};

typedef struct {
    __s64 counter;
} atomic64_t;

struct sock_common {
    __be32 skc_daddr;
    __be32 skc_rcv_saddr;
    __be16 skc_dport;
    __u16 skc_num;
    unsigned short skc_family;
    volatile unsigned char skc_state;
    int skc_bound_dev_if;
    unsigned char skc_reuse : 4;
    unsigned char skc_reuseport : 1;
    unsigned char skc_ipv6only : 1;
    possible_net_t skc_net;
    unsigned long skc_flags;
    atomic64_t skc_cookie; /* 0: nobody has asked yet */
    struct in6_addr skc_v6_daddr;
    struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
    struct sock_common __sk_common;
    __u8 sk_kern_sock : 1;
    __u8 sk_userlocks : 4;
    __u16 sk_type;
    __u16 sk_protocol;
    kuid_t sk_uid;
    struct socket* sk_socket;
    struct sock_cgroup_data sk_cgrp_data;
    void* sk_bpf_storage;
    struct sock_reuseport* sk_reuseport_cb;
};

struct sock_reuseport {
    __u16 num_socks;
    unsigned int has_conns : 1; /* of UDP: some were connected while they were in the group */
    void* prog;                 /* which of the group is to hear (SO_ATTACH_REUSEPORT_CBPF, _EBPF) */
    struct sock* socks[0];
};

struct inet_sock {
    unsigned long inet_flags;
};

struct inet_bind_bucket {
    signed char fastreuse;
};

struct inet_connection_sock {
    struct inet_bind_bucket* icsk_bind_hash;
};

struct inet_sock___before_6_6 {
    __u8 freebind : 1;
    __u8 transparent : 1;
} __attribute__((preserve_access_index));

struct tcp_sock {
    __u64 bytes_sent;
    __u64 bytes_retrans;
    __u64 bytes_received;
};

struct mptcp_sock {
    struct sock* first; /* the subflow that it binds and listens with; NULL when it has none */
};

struct udp_sock {
    int pending; /* of a datagram that is being put together, until it has been handed on */
};

struct seq_file {
    int bulkhead_unused;
};

struct bpf_iter_meta {
    struct seq_file* seq;
    __u64 session_id;
};

struct bpf_iter__tcp {
    struct bpf_iter_meta* meta;
    struct sock_common* sk_common;
    __u32 uid __attribute__((aligned(8)));
};

struct bpf_iter__udp {
    struct bpf_iter_meta* meta;
    struct udp_sock* udp_sk;
    __u32 uid __attribute__((aligned(8)));
    int bucket __attribute__((aligned(8)));
};

struct bpf_iter__task_file {
    struct bpf_iter_meta* meta;
    struct task_struct* task;
    __u32 fd __attribute__((aligned(8)));
    struct file* file;
};

#pragma clang attribute pop

/* <sys/socket.h> */
#define BH_AF_INET 2
#define BH_AF_INET6 10
#define BH_AF_PACKET 17
#define BH_SOCK_STREAM 1
#define BH_SOCK_DGRAM 2
#define BH_SOCK_RAW 3

/* include/net/sock.h, enum sock_flags: set when the peer's FIN was taken in. */
#define SOCK_DONE_BIT 1

extern void* bpf_rdonly_cast(const void* object, __u32 btf_id) __ksym __weak; /* 6.2; no call, only a type */

#endif
