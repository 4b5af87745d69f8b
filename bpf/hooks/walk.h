/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The walk over live sockets and over those who hold them: read by the agent like files. */
#include "bpf/ancestors.h"
#include "bpf/asked_peers.h"
#include "bpf/ends.h"
#include "bpf/socket.h"
#include "bpf/subject.h"

#define BH_S_IFMT 0170000
#define BH_S_IFSOCK 0140000
#define BH_STATE_TIME_WAIT 6
#define BH_AF_SMC 43
#define BH_TOLD_OWNERS_BITS 14
#define BH_STATE_NEW_SYN_RECV 12

struct bh_told_owner {
    __u64 walk; /* the iterator's session */
    __u64 inode;
    __u32 tgid;
    __u32 pad;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1 << BH_TOLD_OWNERS_BITS);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct bh_told_owner));
} bh_told_owners SEC(".maps");

/* Here, and not by the agent: a cgroup that is gone, or too deep for any path, has its ancestors still. */
static __always_inline __u8 bh_scope_of(const struct cgroup* cgroup)
{
    if (scope_is_root)
        return BH_SCOPE_INSIDE;
    if (!cgroup)
        return BH_SCOPE_UNKNOWN;
    if (BPF_CORE_READ(cgroup, level) < (int)scope_level)
        return BH_SCOPE_OUTSIDE;
    return bh_ancestor_id(cgroup, scope_level) == scope_cgroup ? BH_SCOPE_INSIDE : BH_SCOPE_OUTSIDE;
}

static __always_inline void bh_describe_socket(struct bh_walked_socket* walked, struct sock* sock, __u32 uid)
{
    struct sock_common* common = &sock->__sk_common;
    walked->cookie = cookies_in_walk ? bpf_get_socket_cookie(sock) : (__u64)common->skc_cookie.counter;
    walked->inode = sock->sk_socket->file->f_inode->i_ino;
    walked->family = common->skc_family;
    bh_load_local(common, &walked->local);
    bh_load_remote(common, &walked->remote);
    walked->local_port = common->skc_num;
    walked->remote_port = bpf_ntohs(common->skc_dport);
    walked->state = common->skc_state;
    walked->v6only = bh_v6only_of(sock);
    walked->bound_interface = common->skc_bound_dev_if;
    walked->uid = uid;
    walked->netns = bh_netns_of(sock);
    const struct cgroup* cgroup = bh_cgroup_of(sock);
    walked->cgroup_id = cgroup ? BPF_CORE_READ(cgroup, kn, id) : 0;
    walked->scope = bh_scope_of(cgroup);
}

SEC("iter/tcp")
int bh_walk_tcp(struct bpf_iter__tcp* ctx)
{
    struct sock_common* common = ctx->sk_common;
    if (!common)
        return 0;
    __u8 state = common->skc_state;
    if (state == BH_STATE_TIME_WAIT || state == BH_STATE_NEW_SYN_RECV) /* no full sockets; nobody holds them */
        return 0;
    struct tcp_sock* tcp = (struct tcp_sock*)bpf_skc_to_tcp_sock(common);
    if (!tcp)
        return 0;
    struct bh_walked_socket walked = {.protocol = IPPROTO_TCP};
    bh_describe_socket(&walked, (struct sock*)tcp, ctx->uid);
    walked.bytes_out = tcp->bytes_sent - tcp->bytes_retrans;
    walked.bytes_in = tcp->bytes_received;
    walked.opened = bh_opened_of(tcp);
    walked.transparent = bh_is_transparent(tcp);
    bpf_seq_write(ctx->meta->seq, &walked, sizeof(walked));
    return 0;
}

/* UDP is never accepted; a connected socket has passed connect(2), and perhaps as an answer. */
static __always_inline __u8 bh_udp_opened_of(struct udp_sock* udp, const struct bh_walked_socket* walked)
{
    if (!cookies_in_walk) /* then storage is not shown either (Linux 5.11) */
        return BH_OPENED_UNKNOWN;
    const struct bh_asked* asked = bpf_sk_storage_get(&bh_asked_peers, udp, NULL, 0);
    return asked && bh_is_answered_peer(asked, &walked->remote, walked->remote_port) ? BH_OPENED_BY_PEER
                                                                                     : BH_OPENED_BY_CONNECT;
}

SEC("iter/udp")
int bh_walk_udp(struct bpf_iter__udp* ctx)
{
    struct udp_sock* udp = ctx->udp_sk;
    if (!udp)
        return 0;
    struct bh_walked_socket walked = {.protocol = IPPROTO_UDP};
    bh_describe_socket(&walked, (struct sock*)udp, ctx->uid);
    walked.opened = bh_udp_opened_of(udp, &walked);
    bpf_seq_write(ctx->meta->seq, &walked, sizeof(walked));
    return 0;
}

/* What an IP socket may be held as; SMC's own socket takes the place of the TCP socket that it falls back to. */
static __always_inline int bh_may_hold_ip(const struct file* file)
{
    const struct socket* socket = file->private_data;
    __u16 family = BPF_CORE_READ(socket, sk, __sk_common.skc_family);
    return family == BH_AF_INET || family == BH_AF_INET6 || family == BH_AF_SMC;
}

/* Whoever likes has half a million descriptors of one socket (dup(2)). Forgets some, which are told of again then. */
static __always_inline struct bh_told_owner* bh_told_owner_at(__u64 inode, __u32 tgid)
{
    __u32 at = (__u32)((inode + ((__u64)tgid << 32)) * 0x9e3779b97f4a7c15ull >> (64 - BH_TOLD_OWNERS_BITS));
    return bpf_map_lookup_elem(&bh_told_owners, &at);
}

SEC("iter/task_file")
int bh_walk_owners(struct bpf_iter__task_file* ctx)
{
    struct task_struct* task = ctx->task;
    struct file* file = ctx->file;
    if (!task || !file)
        return 0;
    struct inode* inode = file->f_inode;
    if (task->tgid != task->pid || (inode->i_mode & BH_S_IFMT) != BH_S_IFSOCK || !bh_may_hold_ip(file))
        return 0;
    __u64 walk = ctx->meta->session_id;
    __u32 tgid = (__u32)task->tgid;
    struct bh_told_owner* told = bh_told_owner_at(inode->i_ino, tgid);
    if (told && told->walk == walk && told->inode == inode->i_ino && told->tgid == tgid)
        return 0;
    struct bh_walked_owner owner = {.inode = inode->i_ino};
    BPF_CORE_READ_INTO(&owner.subject.comm, task, comm);
    bh_load_task(&owner.subject, task);
    /* What finds no room is shown again at the next read(2) (bpf_seq_read): it has not been told. */
    if (bpf_seq_write(ctx->meta->seq, &owner, sizeof(owner)) == 0 && told) {
        told->walk = walk;
        told->inode = owner.inode;
        told->tgid = tgid;
    }
    return 0;
}
