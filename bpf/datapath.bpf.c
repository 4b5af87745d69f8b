/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The kernel side of the agent: one hook a file under hooks/; layers are in README.md. */
#include "bpf/hooks/connect4.h"
#include "bpf/hooks/connect6.h"
#include "bpf/hooks/guard.h"
#include "bpf/hooks/ingress.h"
#include "bpf/hooks/judge.h"
#include "bpf/hooks/post_bind.h"
#include "bpf/hooks/quarantine_xdp.h"
#include "bpf/hooks/recvmsg.h"
#include "bpf/hooks/sendmsg4.h"
#include "bpf/hooks/sendmsg6.h"
#include "bpf/hooks/setsockopt.h"
#include "bpf/hooks/sk_lookup.h"
#include "bpf/hooks/sock_ops.h"
#include "bpf/hooks/sock_release.h"
#include "bpf/hooks/walk.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
