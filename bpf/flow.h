/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * flow.h: every struct that crosses between the kernel and user space, and
 * nothing else.  src/hatrace/model/flow.py and src/hatrace/kernel/wire.py say
 * the same in Python; tests/unit/kernel/test_wire.py compiles this file and
 * compares each offset.
 *
 * Clock: CLOCK_MONOTONIC, in ns; 0 means "has not happened, or was not seen".  Times of flows
 * are whole multiples of 1,024 ns.
 * Addresses: 16 bytes, IPv4 as ::ffff:a.b.c.d.  Ports: host byte order.
 */
#ifndef HATRACE_FLOW_H
#define HATRACE_FLOW_H

enum flow_flag {
	FLOW_CONNECTED	 = 1 << 0, /* active open: this side called connect() */
	FLOW_ACCEPTED	 = 1 << 1, /* passive open: child of a listener */
	FLOW_LISTENER	 = 1 << 2, /* has been in LISTEN */
	FLOW_ADOPTED	 = 1 << 3, /* older than hatrace: born_ns is the inventory's time */
	FLOW_FIN_SENT	 = 1 << 4, /* this side shut its sending half */
	FLOW_FIN_RECEIVED = 1 << 5, /* the peer shut its sending half */
	FLOW_RST_SENT	 = 1 << 6, /* this side aborted the connection */
	FLOW_RST_RECEIVED = 1 << 7, /* the peer aborted the connection */
	FLOW_OWNED	 = 1 << 8, /* pid was seen in connect, accept or an fd table */
	FLOW_FAILED	 = 1 << 9, /* ended without ever being established */
};

/* One socket's life on one side: the kernel's table, the ring and the scan. */
struct flow {
	__u64 id;		/* kernel address of the socket xor a secret of this run */
	__u64 born_ns;		/* connect(), listen() or the child's handshake; with id the key */
	__u64 connect_ns;	/* connect() */
	__u64 established_ns;
	__u64 fin_ns;		/* the peer's FIN */
	__u64 closed_ns;	/* state became CLOSE while the owner still held it, or by abort */
	__u64 released_ns;	/* the owner let go: last reference to the file */
	__u64 gone_ns;		/* tcp_destroy_sock; 0 in a scan */
	__u64 moved_ns;		/* last segment with data, either way; precision: a jiffy */
	__u64 sent_bytes;	/* payload handed to the network, without retransmissions */
	__u64 received_bytes;
	__u64 cookie;		/* SO_COOKIE; 0 unless somebody asked for it */
	__u8 laddr[16];
	__u8 raddr[16];
	__u8 comm[16];		/* of pid, when it connected or accepted */
	__u32 pid;		/* tgid which owns it; 0 unknown */
	__u32 closer;		/* tgid which let go last; 0 still held */
	__u32 inode;		/* of the socket's file; 0 unless a scan saw it open */
	__u32 netns;		/* inode of the network namespace */
	__u32 target;		/* index of the target it counts for */
	__u32 unread_bytes;	/* received, not read; of a listener: connections waiting */
	__u32 unsent_bytes;	/* written, not acknowledged; of a listener: its backlog */
	__u16 lport;
	__u16 rport;
	__u16 flags;		/* enum flow_flag */
	__u16 error;		/* errno of the connection's end: ECONNREFUSED, ETIMEDOUT ... */
	__u8 family;		/* AF_INET or AF_INET6 */
	__u8 state;		/* TCP_ESTABLISHED (1) .. TCP_CLOSING (11), net/tcp_states.h */
	__u16 calm;		/* in the kernel's table only: see calm.h */
};

enum direction { OUTBOUND = 0, INBOUND = 1 };

/* What totals are kept for.  Outbound: owner and remote end; inbound: local end. */
struct target_key {
	__u8 addr[16];
	__u32 pid;		/* tgid; 0 for inbound */
	__u32 netns;
	__u16 port;
	__u8 direction;		/* enum direction */
	__u8 pad[5];
};

#define LIFETIME_BUCKETS 16	/* bucket n: lifetime < 4^n us; the last: all above */

struct target_total {
	__u64 adopted;		/* open before hatrace came */
	__u64 gone;		/* what is open now, a scan counts: born = gone + open - adopted */
	__u64 failed;		/* gone without ever being established */
	__u64 reset;		/* gone by an abort, of either side */
	__u64 sent_bytes;	/* of gone flows */
	__u64 received_bytes;	/* of gone flows */
	__u32 lifetime[LIFETIME_BUCKETS];	/* of gone flows */
};

#define FLOW_WORDS 23		/* of 8 bytes, in struct flow */
#define BLOCK_FLOWS 128

/*
 * Room for flows that ended, on their way to user space, as it wants them: the first words of all,
 * then the second ones ...  Times but gone_ns and moved_ns are distances (0: has not happened):
 * connect_ns and established_ns since born_ns, the others until gone_ns.  The last word says which
 * of these have happened: bit 0 connect_ns, then established, fin, closed, released.
 */
struct block {
	__u64 words[FLOW_WORDS + 1][BLOCK_FLOWS + 8]; /* + 8: not all in one set of the cache */
};

/* One CPU's lane: flows that ended, on their way to user space (lanes.h). */
struct lane {
	__u64 written;		/* flows put in so far */
	__u64 busy;		/* 1: one is being put in */
	__u64 read;		/* flows taken out so far, by user space */
	__u8 pad[40];		/* no two CPUs write the same cache line */
};

/* What was not recorded, and why.  Each counter only grows. */
struct losses {
	__u64 ring_full;	/* finished flows whose record found no room */
	__u64 flows_full;	/* births which found no room in the table */
	__u64 targets_full;	/* finished flows counted under no target */
	__u64 overwritten;	/* ends that no hook saw: told late, by the next scan or birth there */
};

/* A process in scope, by its tgid. */
struct process {
	__u8 comm[16];		/* its name: its first thread's */
};

enum scope_kind { SCOPE_TGIDS = 0, SCOPE_CGROUP = 1, SCOPE_ALL = 2 };

/* Written by user space, read by every hook. */
struct config {
	__u64 secret;
	__u64 cgroup_id;	/* SCOPE_CGROUP: this cgroup v2 and those below it */
	__u32 cgroup_level;	/* SCOPE_CGROUP: its depth, the root being 0 */
	__u32 scope;		/* enum scope_kind */
	__u32 summary;		/* 1: finished flows are counted, not reported */
	__u32 hz;		/* jiffies per second */
	__u8 comm[16];		/* who gets this name joins the scope; empty: nobody does */
	__u16 port_low;		/* net.ipv4.ip_local_port_range */
	__u16 port_high;
	__u32 lane_flows;	/* room of each CPU's lane, a power of two; 0: none */
};

/*
 * Which open flows a scan reports; times before now, in ns; 0: none of the kind.
 * Beside these, each target may have an age of its own (map `watch_ns`, by its
 * index): its open flows older than that are reported whatever their state.
 */
struct criteria {
	__u64 half_closed_ns;	/* CLOSE_WAIT for longer */
	__u64 ghost_ns;		/* CLOSE, still held, for longer */
	__u64 orphan_ns;	/* released for longer, kernel still has it */
	__u64 unanswered_ns;	/* SYN_SENT for longer */
	__u64 idle_ns;		/* ESTABLISHED, nothing moved for longer */
	__u32 limit;		/* at most so many records; all are counted */
	__u32 everything;	/* 1: every open flow */
	__u32 whole;		/* 1: the scan goes through the whole table (calm.h) */
	__u8 pad[4];
};

/* One socket file of a process in scope, from the inventory. */
struct held {
	__u32 pid;
	__u32 fd;
	__u32 inode;
	__u16 family;
	__u8 protocol;		/* IPPROTO_TCP ...; 0 for AF_UNIX */
	__u8 state;
};

/* A command-line socket's path as its clients give it, padded with NULs. */
struct unix_path {
	__u8 name[108];
};

struct unix_caller {
	__u32 pid;		/* tgid */
	__u32 path;		/* as user space numbered it */
};

/* connect() calls of one process to one command-line socket. */
struct unix_calls {
	__u64 connects;
	__u64 last_ns;
	__u8 comm[16];
};

#endif
