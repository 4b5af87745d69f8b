/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The walk over live sockets and over those who hold them: read by the agent like files. */
#include "bpf/socket.h"
#include "bpf/subject.h"

#define BH_S_IFMT 0170000
#define BH_S_IFSOCK 0140000
#define BH_STATE_TIME_WAIT 6
#define BH_STATE_NEW_SYN_RECV 12

static __always_inline void bh_describe_socket(struct bh_walked_socket* walked, struct sock* sock, __u32 uid)
{
    walked->cookie = bpf_get_socket_cookie(sock);
    walked->inode = BPF_CORE_READ(sock, sk_socket, file, f_inode, i_ino);
    bh_local_address_of(sock, &walked->local);
    bh_remote_address_of(sock, &walked->remote);
    walked->local_port = bh_local_port_of(sock);
    walked->remote_port = bh_remote_port_of(sock);
    walked->state = BPF_CORE_READ(sock, __sk_common.skc_state);
    walked->family = BPF_CORE_READ(sock, __sk_common.skc_family);
    walked->v6only = bh_v6only_of(sock);
    walked->uid = uid;
    const struct cgroup* cgroup = bh_cgroup_of(sock);
    walked->cgroup_id = cgroup ? BPF_CORE_READ(cgroup, kn, id) : 0;
}

SEC("iter/tcp")
int bh_walk_tcp(struct bpf_iter__tcp* ctx)
{
    struct sock_common* common = ctx->sk_common;
    if (!common)
        return 0;
    __u8 state = BPF_CORE_READ(common, skc_state);
    if (state == BH_STATE_TIME_WAIT || state == BH_STATE_NEW_SYN_RECV) /* no full sockets; nobody holds them */
        return 0;
    struct tcp_sock* tcp = (struct tcp_sock*)bpf_skc_to_tcp_sock(common);
    if (!tcp)
        return 0;
    struct bh_walked_socket walked = {.protocol = IPPROTO_TCP};
    bh_describe_socket(&walked, (struct sock*)tcp, ctx->uid);
    walked.bytes_out = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
    walked.bytes_in = BPF_CORE_READ(tcp, bytes_received);
    bpf_seq_write(ctx->meta->seq, &walked, sizeof(walked));
    return 0;
}

SEC("iter/udp")
int bh_walk_udp(struct bpf_iter__udp* ctx)
{
    struct udp_sock* udp = ctx->udp_sk;
    if (!udp)
        return 0;
    struct bh_walked_socket walked = {.protocol = IPPROTO_UDP};
    bh_describe_socket(&walked, (struct sock*)udp, ctx->uid);
    bpf_seq_write(ctx->meta->seq, &walked, sizeof(walked));
    return 0;
}

SEC("iter/task_file")
int bh_walk_owners(struct bpf_iter__task_file* ctx)
{
    struct task_struct* task = ctx->task;
    struct file* file = ctx->file;
    if (!task || !file)
        return 0;
    struct inode* inode = BPF_CORE_READ(file, f_inode);
    if ((BPF_CORE_READ(inode, i_mode) & BH_S_IFMT) != BH_S_IFSOCK)
        return 0;
    if (BPF_CORE_READ(task, tgid) != BPF_CORE_READ(task, pid))
        return 0;
    struct bh_walked_owner owner = {.inode = BPF_CORE_READ(inode, i_ino)};
    bh_subject_of_task(&owner.subject, task);
    bpf_seq_write(ctx->meta->seq, &owner, sizeof(owner));
    return 0;
}
