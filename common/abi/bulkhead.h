/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The one definition of every structure that the kernel programs and the agent share. Included by
 * clang -target bpf and by g++: fixed-width types, named padding, sizes and offsets asserted.
 *
 * All addresses are 16 bytes in network byte order; IPv4 is written as ::ffff:a.b.c.d, so an IPv4-mapped IPv6
 * address *is* the IPv4 address (RFC 4291, section 2.5.5.2). Ports are in host byte order.
 */
#ifndef BULKHEAD_ABI_BULKHEAD_H
#define BULKHEAD_ABI_BULKHEAD_H

#include <linux/types.h>

#ifdef __cplusplus
#include <cstddef>
#define BH_ASSERT(condition, text) static_assert(condition, text)
#else
#include <stddef.h>
#define BH_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* Changes whenever a map's layout or meaning changes; kept in bh_control so that an agent recognises pins of another
 * layout. */
#define BH_ABI_VERSION 4

/* Plane slots: a pair (active, shadow) in force, the pair that a trial falls back to, room to build the next pair. */
#define BH_SLOTS 6
#define BH_SLOT_NONE 0xff /* no plane in force: nothing is enforced and nothing is judged */

#define BH_CLASS_WORDS 4                 /* 64-bit words in a process class vector */
#define BH_CLASSES (64 * BH_CLASS_WORDS) /* 256 process classes a host; class 0 is "any process" */

#define BH_PORTS 65536
/*
 * Protocols of a question and of an entry key: IPPROTO_TCP, _UDP, _ICMP, _ICMPV6, and this for all others. What stands
 * for a port: the ICMP type; of the others the protocol number.
 */
#define BH_PROTOCOL_OTHER 255
/* Port class of what has no port table (ICMP, others): what stands for the port, plus this. */
#define BH_PORT_CLASS_FIRST 1

/* Index into a port class table: direction (0 out, 1 in) x protocol (0 tcp, 1 udp) x port. */
#define BH_PORT_CLASS_ENTRIES (4 * BH_PORTS)

#define BH_PEER_ANY 0 /* peer class of an address that no selector names; also the "any peer" half of an entry key */
#define BH_PORT_ANY 0 /* port class "any port" */

/* FORWARDED is a direction of events only; such a packet is judged inbound from its source and outbound to its end. */
enum bh_direction { BH_OUTBOUND = 0, BH_INBOUND = 1, BH_FORWARDED = 2 };

enum bh_default { BH_DEFAULT_NONE = 0, BH_DEFAULT_ALLOW = 1, BH_DEFAULT_DENY = 2 };

enum bh_verdict { BH_ALLOWED = 0, BH_DENIED = 1 };

/* Why a verdict is what it is. Order is not precedence. */
enum bh_reason {
    BH_REASON_NO_POLICY = 0, /* no plane, or no enforcing segment on this host */
    BH_REASON_FAILSAFE = 1,
    BH_REASON_RULE = 2,
    BH_REASON_DEFAULT = 3,
    BH_REASON_MALFORMED = 4,  /* the hook could not read what it needs; fails closed where a plane is in force */
    BH_REASON_LOCAL = 5,      /* loopback, and nothing in the policy forbids it */
    BH_REASON_REPLY = 6,      /* answer of a UDP conversation that was judged when it began */
    BH_REASON_QUARANTINE = 7, /* the host is cut off: only failsafes remain */
    BH_REASON_FULL = 8,       /* no room to remember what must be remembered for the answer */
};

/* Aligned to four bytes, so that the kernel programs move words; every structure here keeps it on such an offset. */
struct bh_address {
    __u8 byte[16];
} __attribute__((aligned(4)));
BH_ASSERT(sizeof(struct bh_address) == 16, "layout");

/*
 * The whole switch: one aligned 64-bit word, read once per decision, written once per change. A reader sees the old
 * pair of planes or the new pair, never a mixture.
 */
struct bh_control {
    __u8 active_slot; /* < BH_SLOTS or BH_SLOT_NONE */
    __u8 shadow_slot; /* < BH_SLOTS or BH_SLOT_NONE */
    __u8 abi_version;
    __u8 flags;       /* enum bh_control_flag */
    __u32 generation; /* counts switches; stamped on every event */
};
BH_ASSERT(sizeof(struct bh_control) == 8, "the control word must be one atomic store");

enum bh_control_flag {
    BH_CONTROL_QUARANTINE = 1, /* the active plane holds failsafes only, and every packet is judged, also of sessions */
    BH_CONTROL_TRIAL =
        4, /* in force until bh_plane_info.until_ns of the active slot; taking it away is a confirmation */
};

/* Protocols as the shapes of a plane lump them: TCP, UDP, all else. */
#define BH_PROTOCOL_GROUPS 3
#define BH_PROTOCOL_GROUP(protocol) ((protocol) == 6 ? 0 : (protocol) == 17 ? 1 : 2)

/*
 * Map bh_plane_info: array[BH_SLOTS]. Written only while the slot is in neither role.
 *
 * A trial (BH_CONTROL_TRIAL; it always has an active plane): once until_ns of the active slot has passed, every
 * decision is made as if the control word said then_active, then_shadow, then_flags and then_generation, whether or not
 * an agent lives. A confirmation takes the flag away, so that it is one store like every other change.
 */
struct bh_plane_info {
    __u32 generation;
    __u8 default_action[2]; /* enum bh_default, by enum bh_direction */
    __u8 has_prefixes;      /* the LPM table is not empty */
    __u8 has_processes;     /* some entry looks at classes other than 0 */
    __u8 loopback;          /* enum bh_default: what no rule about loopback matches; NONE: loopback is not judged */
    __u8 then_active, then_shadow;
    __u8 then_flags;
    __u32 then_generation;
    __u64 until_ns;                     /* of a trial: CLOCK_MONOTONIC */
    __u8 shapes[2][BH_PROTOCOL_GROUPS]; /* enum bh_shape, by enum bh_direction and BH_PROTOCOL_GROUP() */
    __u8 pad[2];
};
BH_ASSERT(sizeof(struct bh_plane_info) == 32, "layout");

/* Kinds of keys that a plane has entries with, so that a verdict looks for no others. */
enum bh_shape {
    BH_SHAPE_ANY_ANY = 1, /* any peer, any port */
    BH_SHAPE_ANY_PORT = 2,
    BH_SHAPE_PEER_ANY = 4,
    BH_SHAPE_PEER_PORT = 8,
};

/* Key of a plane's prefix table (BPF_MAP_TYPE_LPM_TRIE); prefixlen counts bits of the 16-byte form (IPv4 + 96). */
struct bh_prefix_key {
    __u32 prefixlen;
    struct bh_address address;
};
BH_ASSERT(sizeof(struct bh_prefix_key) == 20, "layout");

/*
 * Key of a plane's entries. A verdict looks up four keys: {exact, any} peer class x {exact, any} port class.
 *
 * An entry with rules that expire has stages, one for each instant, the first first: stage i (1, 2, ...) is all that
 * the entry says until its instant, the entry itself what remains after the last. Its key is that of the entry with `i
 * << BH_STAGE_SHIFT` added to the direction; the entry says how many there are.
 */
struct bh_entry_key {
    __u32 peer_class;
    __u16 port_class;
    __u8 protocol; /* IPPROTO_TCP, _UDP, _ICMP, _ICMPV6, BH_PROTOCOL_OTHER */
    __u8 direction;
};
BH_ASSERT(sizeof(struct bh_entry_key) == 8, "layout");

#define BH_STAGE_SHIFT 1
#define BH_STAGES 32 /* instants of expiry that one entry can have */

/* Process classes that this entry lets pass, refuses, and lets pass before everything else. */
struct bh_entry {
    __u64 allow[BH_CLASS_WORDS];
    __u64 deny[BH_CLASS_WORDS];
    __u32 failsafe; /* non-zero: allowed before any deny */
    __u32 stages;   /* how many stages exist; 0 in a stage */
    __u64 until_ns; /* of a stage: from then on it says nothing. CLOCK_MONOTONIC in the kernel's maps; 0: for good */
};
BH_ASSERT(sizeof(struct bh_entry) == 80, "layout");

/*
 * One value of a plane's port class table: the classes of all ports of one direction and protocol. The table is an
 * array of four such values, not of 262144 numbers, since the kernel rounds each value of an array up to eight bytes.
 */
struct bh_port_classes {
    __u16 of_port[BH_PORTS];
};
#define BH_PORT_TABLES (BH_PORT_CLASS_ENTRIES / BH_PORTS) /* index: direction x 2 + (0 tcp, 1 udp) */

struct bh_class_vector {
    __u64 word[BH_CLASS_WORDS];
};

/*
 * Process facets. A class is a conjunction of conditions; each facet maps one property of a process to the set of
 * classes whose condition on that property holds (or that have none). A process's classes are the intersection of its
 * facets. The kernel computes it at the door, so exec and setuid need no message to anybody.
 */
enum bh_facet { BH_FACET_USER = 0, BH_FACET_CGROUP = 1, BH_FACET_EXECUTABLE = 2 };

/*
 * A value that has no key of its own has the vector of {0, 0, facet | BH_FACET_DEFAULT}: the classes without a
 * condition on that facet. For BH_FACET_CGROUP the innermost ancestor cgroup with a key of its own decides.
 */
#define BH_FACET_DEFAULT 0x100

struct bh_facet_key {
    __u64 value;  /* uid, cgroup id, inode number */
    __u32 device; /* BH_FACET_EXECUTABLE: the kernel's dev_t (s_dev) of the file system; else 0 */
    __u32 facet;  /* enum bh_facet */
};
BH_ASSERT(sizeof(struct bh_facet_key) == 16, "layout");

/* What a door knows of the process behind a socket. */
struct bh_subject {
    __u64 cgroup_id;
    __u64 exe_inode;
    __u32 exe_device; /* kernel dev_t */
    __u32 uid;        /* in the initial user namespace */
    __u32 pid;        /* thread group id, initial pid namespace; 0: unknown */
    __u32 tid;
    char comm[16];
};
BH_ASSERT(sizeof(struct bh_subject) == 48, "layout");

/* Key of bh_listeners: who is bound where. */
struct bh_listener_key {
    struct bh_address address; /* :: for any (v6 and, unless v6only, v4), ::ffff:0.0.0.0 for any v4 */
    __u16 port;
    __u8 protocol;
    __u8 pad;
    __u32 netns; /* inode number of the network namespace */
};
BH_ASSERT(sizeof(struct bh_listener_key) == 24, "layout");

/*
 * Value of bh_namespaces; the key is the inode number of a network namespace other than the agent's own. The kernel
 * gives the number of a namespace that is gone to the next one, the cookie never.
 */
struct bh_namespace {
    __u64 cookie;  /* SO_NETNS_COOKIE; 0: this kernel has none to tell */
    __u64 told_ns; /* CLOCK_MONOTONIC: the last BH_EVENT_NAMESPACE */
    __u8 followed; /* a sk_lookup program of this instance stands there */
    __u8 pad[7];
};
BH_ASSERT(sizeof(struct bh_namespace) == 24, "layout");

#define BH_NAMESPACES 256 /* that are followed at once, beside the agent's own */

/*
 * A process's own cgroup, and what it lies in at levels 15 to 1 (id[1] to id[15]; 0: it is not that deep). What lies
 * between is not looked at for BH_FACET_CGROUP: units and containers are less deep (user services, pods: below ten),
 * and whoever may make cgroups in one of them makes them as deep as he likes.
 */
#define BH_CGROUP_LEVELS 16
struct bh_cgroup_path {
    __u64 id[BH_CGROUP_LEVELS];
};

enum bh_listener_state { BH_LISTENER_BOUND = 0, BH_LISTENER_LISTENING = 1 };

struct bh_listener {
    __u64 cookie;   /* of the socket that the row speaks of */
    __u64 since_ns; /* CLOCK_MONOTONIC: when it took the key */
    __u32 sharers;  /* how often others took the same key (SO_REUSEPORT) since the agent last walked the sockets */
    __u8 state;     /* enum bh_listener_state */
    __u8 v6only;
    __u8 mixed;  /* sockets of another unit, program or user hear at the same key; owner is one of them */
    __u8 holder; /* whom the row is counted for (bh_holder_of) */
    struct bh_subject owner;
    struct bh_cgroup_path cgroups; /* of the owner; the kernel cannot walk up from a bare id */
};
BH_ASSERT(sizeof(struct bh_listener) == 200, "layout");

#define BH_LISTENERS 16384
#define BH_LISTENERS_OF_ONE (BH_LISTENERS / 4 * 3)

/* Users for services: of packages (login.defs(5), SYS_UID_MAX), of systemd (systemd.exec(5), DynamicUser), nobody. */
static inline int bh_is_service(__u32 uid)
{
    return uid < 1000 || (uid >= 61184 && uid <= 65534);
}

#define BH_HOLDERS 256

/* 0: root, who is not counted. Who logs in may have many users (subuid(5)), so all of them are one. */
static inline __u32 bh_holder_of(__u32 uid)
{
    if (uid == 0)
        return 0;
    return bh_is_service(uid) ? 1 + uid % (BH_HOLDERS - 2) : BH_HOLDERS - 1;
}

/* Key of bh_udp_out and bh_udp_in (by who began): UDP conversations of unconnected sockets. */
struct bh_udp_flow_key {
    struct bh_address remote;
    __u16 remote_port;
    __u16 local_port;
    __u32 netns; /* inode number of the network namespace: ports of different namespaces are different ports */
};
BH_ASSERT(sizeof(struct bh_udp_flow_key) == 24, "layout");

/* That verdict looked at no process and no clock: it is good for every datagram of this generation. */
#define BH_UDP_SETTLED 0x80000000u

struct bh_udp_flow {
    __u64 opened_ns;  /* CLOCK_MONOTONIC */
    __u64 last_ns;    /* refreshed once in BH_UDP_REFRESH_TICKS */
    __u64 last_tick;  /* the jiffy of that; 0: not by a datagram that passed here */
    __u64 cookie;     /* of the local socket: that sent last (outbound), that the listener table has (inbound) */
    __u32 generation; /* of the planes that last let a datagram pass, and BH_UDP_SETTLED: of one store */
    __u8 direction;   /* who began */
    __u8 within;      /* the peer is an address of the namespace's own, or was when a datagram last passed */
    __u8 answered;    /* the other side has sent something, too */
    __u8 heard;       /* inbound: a process has read a datagram of it (recvmsg(2)); what it sends is an answer then */
    struct bh_subject subject;
};
BH_ASSERT(sizeof(struct bh_udp_flow) == 88, "layout");

#define BH_UDP_FLOWS 65536 /* conversations in each of the two tables; a power of two */
/* A reply later than this after the last datagram is a new conversation: not below two minutes (RFC 4787, REQ-5). */
#define BH_UDP_IDLE_NS (120ull * 1000 * 1000 * 1000)
/* Sockets of one kind that share a port go on with each other's conversation so long; the next begins another. */
#define BH_UDP_SIBLINGS_NS (5ull * 1000 * 1000 * 1000)
/* When its place is needed, a conversation or an exchange that was not answered, or was short, ends after this. */
#define BH_SHORT_IDLE_NS (30ull * 1000 * 1000 * 1000)
#define BH_SHORT_NS (2ull * 1000 * 1000 * 1000)

/*
 * Key of bh_exchanges and bh_spare_exchanges: packets that no socket of this host accounts for. As the first packet had
 * it. Ports are those of TCP and UDP (forwarded packets only); an ICMP echo has its identifier in from_port.
 */
struct bh_exchange_key {
    struct bh_address from, to;
    __u16 from_port, to_port;
    __u8 protocol;
    __u8 pad[3];
};
BH_ASSERT(sizeof(struct bh_exchange_key) == 40, "layout");

/* The first two: each packet is judged again. */
enum bh_exchange_mark {
    BH_AGAIN_BY_PROCESS = 1, /* it depended on the sender's process: answers are not, which have another */
    BH_AGAIN_ON_TIME = 2,    /* it depended on the time */
    BH_OPENED_HERE = 4,      /* of TCP: the guard let its opening segment pass, so it is known who began */
    BH_REFUSED_SINCE = 8,    /* and refuses what goes on with it: kept so that it is still known */
};

struct bh_exchange {
    __u64 opened_ns;  /* CLOCK_MONOTONIC */
    __u64 last_ns;    /* refreshed at most once a second */
    __u32 generation; /* of the planes that let it pass */
    __u8 direction;   /* enum bh_direction */
    __u8 icmp_type;   /* of the first packet */
    __u8 marks;       /* bits of enum bh_exchange_mark */
    __u8 answered;
};
BH_ASSERT(sizeof(struct bh_exchange) == 24, "layout");

#define BH_EXCHANGES 131072
#define BH_SPARE_EXCHANGES 65536

#define BH_EXCHANGE_IDLE_NS (180ull * 1000 * 1000 * 1000)
/* Forwarded connections: 2 h 4 min (RFC 5382, REQ-5). */
#define BH_EXCHANGE_TCP_IDLE_NS (7440ull * 1000 * 1000 * 1000)
#define BH_EXCHANGE_LONGEST_IDLE_NS(key) ((key).protocol == 6 ? BH_EXCHANGE_TCP_IDLE_NS : BH_EXCHANGE_IDLE_NS)

/* Made by chance with the maps. */
struct bh_mark_secret {
    __u64 word[2];
};
BH_ASSERT(sizeof(struct bh_mark_secret) == 16, "layout");
#define BH_MARK_TURN_SHIFT 31 /* a turn: 2^31 ns of CLOCK_MONOTONIC */

/* A permutation of 64 bits, of which each bit of the result depends on all (the finalizer of SplitMix64). */
static inline __u64 bh_mix64(__u64 bits)
{
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9ull;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebull;
    return bits ^ bits >> 31;
}

/* The number of a turn: 1 to 65,535. Who knows some of them does not know the next. */
static inline __u64 bh_mark_of(const struct bh_mark_secret* secret, __u32 turn)
{
    __u64 mark = bh_mix64(bh_mix64(turn ^ secret->word[0]) ^ secret->word[1]) >> 48;
    return mark ? mark : 1;
}

/* By struct bh_exchange_key: what was sent in the host's name for others, as it left. */
struct bh_translated {
    __u64 last_ns; /* CLOCK_MONOTONIC, refreshed at most once a second */
    __u32 generation;
    __u8 icmp_type;
    __u8 pad[3];
};
BH_ASSERT(sizeof(struct bh_translated) == 16, "layout");
#define BH_TRANSLATED_NS (30ull * 1000 * 1000 * 1000) /* for so long an answer or an error may take */

/*
 * Key of bh_fragments: a packet in pieces whose first was let pass. The later ones have no ports; their number is the
 * sender's (RFC 791, RFC 8200 section 4.5). The value is when the first passed, CLOCK_MONOTONIC.
 */
struct bh_fragment_key {
    struct bh_address from, to;
    __u32 identification;
    __u8 protocol; /* as the fragments have it */
    __u8 pad[3];
};
BH_ASSERT(sizeof(struct bh_fragment_key) == 40, "layout");

#define BH_FRAGMENTS_LAST_NS (60ull * 1000 * 1000 * 1000) /* RFC 8200, section 4.5 */

#define BH_SUBNET_BROADCASTS 8 /* IPv4 broadcast addresses that are known one by one */

/* Value of bh_own_addresses: what an address is, and to which network namespaces. */
enum bh_own_address {
    BH_OWN_UNICAST = 1,   /* of an interface of the guarded namespace */
    BH_OWN_LOOPBACK = 2,  /* what goes there from the guarded namespace never leaves it */
    BH_OWN_ELSEWHERE = 4, /* the same of followed namespaces, and of which: bh_own_elsewhere */
    BH_OWN_BROADCAST = 8, /* of a network of the guarded namespace's */
};

/* Which bit of not_own_addresses speaks of an address. */
#define BH_OWN_FILTER_BITS 512
static inline __u32 bh_own_filter_bit_of(__u32 folded)
{
    return (folded * 0x9e3779b1u) >> 23;
}

static inline __u32 bh_fold_address(const struct bh_address* address)
{
    __u32 words[4];
    __builtin_memcpy(words, address->byte, sizeof(words));
    return words[0] ^ words[1] ^ words[2] ^ words[3];
}

static inline __u32 bh_own_filter_bit(const struct bh_address* address)
{
    return bh_own_filter_bit_of(bh_fold_address(address));
}

struct bh_own_key { /* of bh_own_elsewhere */
    struct bh_address address;
    __u32 netns; /* inode number of the network namespace */
};
BH_ASSERT(sizeof(struct bh_own_key) == 20, "layout");

/*
 * Whether an attempt stays in its network namespace: then only what a policy says of loopback counts. Of an address of
 * the namespace that is not a loopback address, 127.0.0.1 or ::1 is asked for.
 */
enum bh_loopback { BH_LOOPBACK_NONE = 0, BH_LOOPBACK_ADDRESS = 1, BH_LOOPBACK_OWN = 2 };

enum bh_event_type {
    BH_EVENT_CONNECT =
        1, /* door passed outbound (TCP connect, first datagram to a peer); joined to ESTABLISHED by cookie. UDP and
              inbound: a socket was connected to a peer, as an answer of what came from him */
    BH_EVENT_ESTABLISHED = 2, /* TCP, both directions */
    BH_EVENT_CLOSE = 3,       /* TCP, with totals */
    BH_EVENT_UDP_OPEN = 4,    /* first datagram of an inbound conversation, unconnected socket */
    BH_EVENT_DENY = 5,        /* refused, or would be: at least one plane said no */
    BH_EVENT_LISTEN = 6,      /* a listener came */
    BH_EVENT_UNLISTEN = 7,    /* a listener went, or its key is shared: resynchronise */
    BH_EVENT_UDP_CLOSE = 8,   /* a connected UDP socket was released */
    BH_EVENT_EXCHANGE = 9,    /* the first packet of an exchange that passes the guard; cookie: its from_port */
    BH_EVENT_NAMESPACE = 10,  /* subject hears in a namespace that is not followed */
};

/* One record of bh_flow_ring or (BH_EVENT_DENY, BH_EVENT_NAMESPACE) bh_deny_ring; or its first BH_BRIEF_EVENT bytes. */
struct bh_event {
    __u64 time_ns; /* CLOCK_MONOTONIC (bpf_ktime_get_ns) */
    __u64 cookie;  /* socket cookie; 0: none (inbound before a socket exists) */
    __u64 bytes_out, bytes_in;
    __u32 packets_out, packets_in;
    __u32 retransmits;
    __u32 rtt_us;
    struct bh_address local, remote;
    __u16 local_port, remote_port;
    __u8 type;     /* enum bh_event_type */
    __u8 protocol; /* the packet's own number, also where the verdict was about BH_PROTOCOL_OTHER */
    __u8 direction;
    __u8 verdict; /* active plane */
    __u8 reason;  /* active plane */
    __u8 shadow_verdict;
    __u8 shadow_reason;
    __u8 tcp_state;
    __u32 generation;
    __u32 netns;    /* inode number of the network namespace of `local`; 0: not told (DENY outbound: see cookie) */
    __u8 icmp_type; /* of ICMP and ICMPv6 */
    __u8 icmp_code;
    union {
        __u8 several; /* of denials: enum bh_several; then only the first attempt is described */
        /* Of ESTABLISHED from outside: a verdict on its end. At which listener its SYN was let pass is not known. */
        __u8 guessed;
        __u8 listed; /* of CONNECT: a conversation of an unconnected socket's, which the table of these has */
    };
    __u8 loopback;                  /* enum bh_loopback */
    struct bh_class_vector classes; /* of the subject, in the active plane's numbering */
    struct bh_subject subject;
};
BH_ASSERT(sizeof(struct bh_event) == 184, "layout");
/* What tells of no process ends before it: every byte of a record is a byte of memory that no cache holds. */
#define BH_BRIEF_EVENT offsetof(struct bh_event, classes)
BH_ASSERT(BH_BRIEF_EVENT == 104, "layout");

/* What a count of denials lumps together. */
enum bh_several {
    BH_SEVERAL_NONE = 0,
    BH_SEVERAL_PORTS = 1, /* one peer, ports and processes that are not told apart */
    BH_SEVERAL_PEERS = 2, /* nothing but direction, protocol and verdict is the same */
};

/*
 * Key of the tables of denials: attempts that differ in none of these are one denial with a count. What lumps several
 * ports together (struct bh_event.several) has a key without port, process, namespace and, but for forwarded packets,
 * local address.
 */
struct bh_denial_key {
    struct bh_address remote, local;
    __u64 who; /* digest of cgroup, executable and user of the subject */
    __u32 pid;
    __u32 generation;
    __u16 port;    /* of the destination, or what stands for it */
    __u8 protocol; /* the packet's own */
    __u8 direction;
    __u8 verdict, reason, shadow_verdict, shadow_reason;
    __u8 several; /* enum bh_several */
    __u8 pad[3];
    __u32 netns; /* inode number of the host's end's network namespace; 0: outbound, or not known */
};
BH_ASSERT(sizeof(struct bh_denial_key) == 64, "layout");

/* Since the table was last emptied. */
struct bh_denial {
    __u64 count;                     /* attempts, but for the one that was told at once */
    __u64 elsewhere;                 /* those of `count` whose port at the other end is not that of `first` */
    __u64 since_ns, last_ns;         /* CLOCK_MONOTONIC, of the attempts in `count`; 0: there are none */
    __u16 lowest_port, highest_port; /* several ports: at least so far apart; 0: none */
    __u32 second;                    /* several ports: in this second of the clock ... */
    __u32 entered;                   /* ... so many single ports of this peer found a place of their own */
    __u32 pad;
    struct bh_event first;
};
BH_ASSERT(sizeof(struct bh_denial) == 232, "layout");

/* Denials that found no place in the table, by CPU; index: turn x BH_DENIAL_REST + bh_denial_rest_index(). */
struct bh_denial_rest {
    __u64 count;
    __u64 since_ns, last_ns;
};
/* tcp, udp, icmp, icmpv6, other */
#define BH_DENIAL_REST_PROTOCOLS 5
#define BH_DENIAL_REST (3 * BH_DENIAL_REST_PROTOCOLS * 2) /* direction x protocol x (0 denied, 1 would be denied) */

/*
 * Whose turn it is: the table turn & 1 is the one that programs count in, the other one holds what was counted in the
 * turn before. One 64-bit store. Writer: agent.
 */
struct bh_denial_turn {
    __u32 turn;
    __u32 reported; /* the turn before this one: non-zero when its counts have been taken */
};
BH_ASSERT(sizeof(struct bh_denial_turn) == 8, "one atomic store");

/* Indexes of bh_counters (per-CPU array of __u64). */
enum bh_counter {
    BH_COUNT_FLOW_EVENTS = 0,
    BH_COUNT_FLOW_LOST,
    BH_COUNT_DENY_EVENTS,
    BH_COUNT_DENY_LOST,
    BH_COUNT_ALLOWED_OUT,
    BH_COUNT_ALLOWED_IN,
    BH_COUNT_DENIED_OUT,
    BH_COUNT_DENIED_IN,
    BH_COUNT_WOULD_DENY_OUT,
    BH_COUNT_WOULD_DENY_IN,
    BH_COUNT_LISTENERS_FULL,
    BH_COUNT_UDP_FLOWS_FULL,
    BH_COUNT_MALFORMED,
    BH_COUNT_GUARD_PACKETS, /* packets that the guard looked at more closely */
    BH_COUNT_DENIED_FORWARDED,
    BH_COUNT_WOULD_DENY_FORWARDED,
    BH_COUNT_EXCHANGES_FULL,
    BH_COUNTERS
};

/* Argument of the judge program (bh_judge_program): the verdict function itself, for tests, re-judging and `why`. */
struct bh_judge_request {
    struct bh_address remote;
    struct bh_subject subject;
    __u16 port;    /* of the destination: remote when outbound, local when inbound; ICMP type, or protocol number */
    __u8 protocol; /* as in bh_entry_key */
    __u8 direction;
    /* answers */
    __u8 verdict, reason, shadow_verdict, shadow_reason;
    __u32 generation;
    __u32 peer_class;
    __u32 shadow_peer_class;
    __u8 port_unknown; /* asked: only entries about every port match */
    __u8 loopback;     /* answered: enum bh_loopback */
    __u8 pad[2];
    __u32 netns; /* asked: inode number of the network namespace that it is in; 0: the guarded one */
    __u32 pad2;
    struct bh_class_vector classes;
};
BH_ASSERT(sizeof(struct bh_judge_request) == 128, "layout");

struct bh_judge_call {
    struct bh_judge_request request;
    struct bh_cgroup_path cgroups; /* of request.subject.cgroup_id; filled by the datapath */
};
BH_ASSERT(sizeof(struct bh_judge_call) == 256, "layout");

/*
 * What one run of the judge program answers: the variable bh_judge_batch of the loaded programs, which the agent maps.
 * (Not the program's context: the verifier lets a program index that only by constants.)
 */
#define BH_JUDGE_BATCH 256 /* a power of two */
struct bh_judge_batch {
    __u32 count; /* of calls that are filled; at most BH_JUDGE_BATCH */
    __u32 pad;
    struct bh_judge_call call[BH_JUDGE_BATCH];
};
BH_ASSERT(sizeof(struct bh_judge_batch) == 8 + BH_JUDGE_BATCH * 256, "layout");

/*
 * What a connected socket's port says of who began. Nothing is kept for it: a port that connect(2) chose belongs to a
 * bucket that says so (fastreuse is -1), and of a socket that was accepted it is not remembered that it was bound to a
 * port (sk_clone_lock() clears SOCK_BINDPORT_LOCK).
 */
enum bh_opened {
    /* Accepted, or connected after bind(2) to port 0. Of UDP: the walk is not shown who began (before Linux 5.12). */
    BH_OPENED_UNKNOWN = 0,
    BH_OPENED_BY_CONNECT = 1,
    BH_OPENED_BY_PEER = 2, /* UDP: connected to whom it answers (bh_connects_as_answer) */
};

/* Whether a socket is of the enforced cgroup, or below. */
enum bh_scope {
    BH_SCOPE_UNKNOWN = 0, /* its cgroup is not known (bh_walked_socket.cgroup_id is 0) */
    BH_SCOPE_INSIDE = 1,
    BH_SCOPE_OUTSIDE = 2,
};

/* One line of the socket walk (iter/tcp, iter/udp; and iter/task_file for the owners). */
struct bh_walked_socket {
    __u64 cookie;
    __u64 inode; /* of the socket file; joins a socket with its owner */
    struct bh_address local, remote;
    __u16 local_port, remote_port;
    __u8 protocol;
    __u8 state; /* TCP_ESTABLISHED ... as in <netinet/tcp.h>; UDP: ESTABLISHED when connected, CLOSE otherwise */
    __u8 v6only;
    __u8 family; /* AF_INET or AF_INET6, of the socket */
    __u64 bytes_out, bytes_in;
    __u32 uid;
    __u32 netns;      /* inode number of its network namespace */
    __u64 cgroup_id;  /* of the socket (sk_cgrp_data), not of the process */
    __u8 opened;      /* enum bh_opened */
    __u8 transparent; /* IP_TRANSPARENT: may be at an address and port that nobody listens on */
    __u8 scope;       /* enum bh_scope */
    __u8 pad;
    __u32 bound_interface; /* its number; 0: none (SO_BINDTODEVICE, and a link-local address's) */
};
BH_ASSERT(sizeof(struct bh_walked_socket) == 96, "layout");

/* A UDP socket that is to be destroyed, as it was walked, while it still has this peer. */
struct bh_condemned_socket {
    struct bh_address remote;
    __u32 remote_port;
};
BH_ASSERT(sizeof(struct bh_condemned_socket) == 20, "layout");
#define BH_CONDEMNED_SOCKETS 65536 /* at once */

struct bh_walked_owner {
    __u64 inode;
    struct bh_subject subject;
};
BH_ASSERT(sizeof(struct bh_walked_owner) == 56, "layout");

#endif
