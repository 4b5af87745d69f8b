/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which peers of a socket the doors were asked about (docs/adr/0019-asked-peers.md). */
#ifndef BULKHEAD_BPF_ASKED_PEERS_H
#define BULKHEAD_BPF_ASKED_PEERS_H

#include "bpf/address.h"
#include "bpf/maps.h"

/* By one at a time: under the socket's lock. `answers`: whether what goes to it is an answer of what came from it. */
static __always_inline void bh_add_peer(struct bh_asked* asked, const struct bh_address* address, __u16 port,
                                        int answers)
{
    __u32 writes = asked->writes, at = writes / 2 % BH_ASKED_PEERS;
    *(volatile __u32*)&asked->writes = writes + 1;
    asm volatile("" ::: "memory");
    asked->port[at] = port;
    asked->address[at] = *address;
    asked->answered = (__u16)((asked->answered & ~(1u << at)) | (answers ? 1u << at : 0));
    asm volatile("" ::: "memory");
    *(volatile __u32*)&asked->writes = writes + 2;
}

/* Which of the peers that a door was asked about it is, as bits. `port`: 0 where the packet does not show it. */
static __always_inline __u32 bh_find_asked_peer(const struct bh_asked* asked, const struct bh_address* address,
                                                __u16 port)
{
    __u32 writes = *(const volatile __u32*)&asked->writes;
    __u32 found = 0;
    asm volatile("" ::: "memory");
#pragma unroll
    for (int i = 0; i < BH_ASKED_PEERS; i++)
        if ((!port || asked->port[i] == port) && bh_is_same(&asked->address[i], address))
            found |= 1u << i;
    asm volatile("" ::: "memory");
    return writes & 1 || *(const volatile __u32*)&asked->writes != writes ? 0 : found;
}

static __always_inline int bh_is_asked_peer(const struct bh_asked* asked, const struct bh_address* address, __u16 port)
{
    return bh_find_asked_peer(asked, address, port) != 0;
}

/* One that it was connected to as an answer. */
static __always_inline int bh_is_answered_peer(const struct bh_asked* asked, const struct bh_address* address,
                                               __u16 port)
{
    __u32 writes = *(const volatile __u32*)&asked->writes;
    asm volatile("" ::: "memory");
    __u32 answered = asked->answered & bh_find_asked_peer(asked, address, port);
    asm volatile("" ::: "memory");
    return answered && *(const volatile __u32*)&asked->writes == writes;
}

#endif
