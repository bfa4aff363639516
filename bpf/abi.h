/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The layout of falcodrop's pinned maps: what the XDP program and every user of the maps agree on.
 *
 * Times are nanoseconds of the *drop clock*: CLOCK_MONOTONIC plus hints.skew_ns, the time spent in
 * suspend. CLOCK_MONOTONIC because the kernel reads its coarse form cheaply on a hit, because user
 * space reads the same number without asking, and because no step of the wall clock moves it.
 * A block is live while now < end. Addresses and keys are in network order.
 */
#ifndef FALCODROP_ABI_H
#define FALCODROP_ABI_H

#include <linux/types.h>

/* Maps of another version are refused; raise it with every change to this file's layout. */
#define FALCODROP_FORMAT 3

#define NEVER    0ULL
#define FOR_EVER (~0ULL)

#define MAX_SLOTS        64  /* interfaces attached at once */
#define MAX_SCOPES       256 /* rows of scopes; the first stays empty */
#define SCOPE_PORTS      16
#define NEVER_DROP_PORTS 16

enum block_owner {
	OWNER_HAND = 1 << 0,
	OWNER_POLICY = 1 << 1,
	OWNER_FEED = 1 << 2,
	/* Of an entry that has ended: it was unblocked, and the ledger could not be told yet. The
	 * other bits say whose claims were meant, count_until says when. Gone once the entry lives
	 * again. */
	OWNER_WITHDRAWN = 1 << 7,
};

enum block_action {
	ACTION_DROP = 0, /* the only one so far; room for limit and sample */
};

/*
 * One entry of blocked_v4, blocked_v6, blocked_cidr_v4 or blocked_cidr_v6: the union of the live
 * claims on one target. The ends stand first: in a hash element they share the key's cache line.
 */
struct block {
	__u64 drop_until;   /* packets are dropped while now < this */
	__u64 count_until;  /* packets are counted while now < this (monitor) */
	__u8 action;        /* enum block_action */
	__u8 owners;        /* bits of enum block_owner */
	__u16 scope;        /* row of scopes; 0 = every port */
	__u8 prefix_length; /* as in the key: tells which prefix a trie lookup found */
	__u8 reserved[3];
	__u64 packets; /* met while live, dropped or only counted */
	__u64 bytes;
	__u64 last_seen; /* drop clock, 0 = never */
};

/* One entry of allowed_cidr_v4 or allowed_cidr_v6. Judged without the skew, which the service may
 * write: what root allows must not end by the service's hand. */
struct allow {
	__u64 until; /* CLOCK_MONOTONIC ns */
	__u8 prefix_length;
	__u8 reserved[7];
};

/*
 * Eight bytes for the address, of which the first four are used: the value follows the key in a
 * trie's node, and after four bytes its counters would not lie on eight, half of them across two
 * cache lines. An atomic add there locks the bus, two microseconds a packet on x86.
 */
struct cidr_v4 {
	__u32 prefix_length; /* at most 32 */
	__u8 address[4];
	__u8 reserved[4];
};

struct cidr_v6 {
	__u32 prefix_length;
	__u8 address[16];
};

/* A local port: the destination port of what comes in. */
struct port {
	__u8 protocol; /* as in the IP header, one that has ports; 0 ends a list */
	__u8 reserved;
	__u16 number; /* host order */
};

/*
 * scopes[row]: what an entry is limited to. A row is written before the first entry names it and
 * stays as it is while one does. Later fragments and what is too short or malformed show no port:
 * they are judged by the address. An empty row limits nothing.
 */
struct scope {
	struct port ports[SCOPE_PORTS];
};

/*
 * The one element of hints, mapped and written by user space. A stale "there are prefixes" costs
 * time; a stale "there are none" would let packets through: set before an insert, cleared only
 * under the exclusive lock while the trie is empty.
 */
struct hints {
	__u64 skew_ns;
	__u32 prefixes; /* bits of enum hint_prefixes */
	__u32 reserved;
};

enum hint_prefixes {
	PREFIXES_V4 = 1 << 0,
	PREFIXES_V6 = 1 << 1,
};

enum mode {
	MODE_ENFORCE = 0,
	MODE_MONITOR = 1, /* look up and count, drop nothing */
	MODE_OFF = 2,     /* look up nothing */
};

/* The one element of settings, written by root alone. */
struct settings {
	__u32 format;     /* FALCODROP_FORMAT */
	__u32 mode;       /* enum mode */
	__u64 deadline;   /* CLOCK_MONOTONIC ns; 0 = none */
	__u32 mode_after; /* enum mode from the deadline on */
	__u32 sampling;   /* 0 = no drop samples, 1 = first hit and powers of two */
	struct port never_drop[NEVER_DROP_PORTS]; /* management; whoever comes */
};

/*
 * counters[slot * COUNT_KINDS + kind], a struct total per CPU. Every packet is one of the PASS_
 * and DROP_ kinds; the kinds after them are counted beside.
 */
enum count_kind {
	PASS_CLEAN,        /* IP, no live entry */
	PASS_ALLOWED,      /* a live entry, outranked by an allow */
	PASS_NEVER_DROP,   /* a live entry, but to a port of settings.never_drop */
	PASS_OTHER_PORT,   /* live entries, all of them limited to other ports */
	PASS_MONITORED,    /* live entries, all of them monitoring */
	PASS_MODE_MONITOR, /* would have been dropped, but the mode is monitor */
	PASS_MODE_OFF,
	PASS_NOT_IP,     /* ARP, LLDP, MPLS, PPP control, … */
	PASS_TAGS,       /* more than two VLAN tags */
	PASS_SHORT_LINK, /* ends within the Ethernet, VLAN or PPPoE header */
	PASS_SHORT_IPV4, /* ends within the fixed IPv4 header */
	PASS_SHORT_IPV6,
	DROP_ADDRESS,
	DROP_PREFIX,
	ALSO_MALFORMED,   /* lying version or lengths; looked up all the same */
	ALSO_SAMPLE_LOST, /* the ring buffer was full */
	COUNT_KINDS,
};

struct total {
	__u64 packets;
	__u64 bytes;
};

/* interfaces[slot]: who counts there; 0 = free. Counters of a slot are cleared when it is given
 * away. */
struct interface_slot {
	__u32 ifindex;
};

/* A record of drop_samples. */
struct sample {
	__u64 at;      /* drop clock */
	__u64 packets; /* the entry's count, this packet included */
	__u32 ifindex;
	__u32 length;       /* bytes on the wire as XDP sees them */
	__u8 family;        /* 4 or 6 */
	__u8 protocol;      /* IPv4 protocol or the fixed header's IPv6 next header */
	__u8 kind;          /* enum count_kind: DROP_*, PASS_MONITORED, PASS_MODE_MONITOR */
	__u8 prefix_length; /* of the entry that decided */
	__u16 source_port;  /* host order; 0 when there is none */
	__u16 destination_port;
	__u8 source[16]; /* IPv4: the first four bytes */
	__u8 destination[16];
};

/*
 * Arguments of the change programs: a live entry is altered in place, for the kernel replaces a
 * hash element by adding the new one and then removing the old, and a reader in between finds
 * neither.
 */
enum change_operation {
	CHANGE_RAISE = 0, /* the later of each end wins; owners are added */
	CHANGE_SET = 1, /* ends, action, owners and scope exactly; only under the exclusive lock */
};

enum change_result {
	CHANGE_ABSENT = 0, /* no such entry */
	CHANGE_DONE = 1,
	CHANGE_UNCHANGED = 2, /* it already lasts at least as long */
	CHANGE_INVALID = 3,   /* arguments make no sense */
};

struct change {
	__u64 drop_until;
	__u64 count_until;
	__u32 operation;    /* enum change_operation */
	__u8 family;        /* 4 or 6 */
	__u8 prefix_length; /* read by change_cidr */
	__u8 action;
	__u8 owners;
	__u16 scope;
	__u8 reserved[6];
	__u8 address[16]; /* IPv4: the first four bytes */
};

#endif
