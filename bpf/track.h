/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * track.h: the state machine of one socket, shared by all rungs.
 *
 *	connect   born: the owner calls connect()
 *	child     born: a listener's child, its handshake done
 *	listen    born: the owner calls listen()
 *	accept    the owner gets a child from accept()
 *	state     the kernel moves it from one TCP state to another
 *	reset     the peer aborts it
 *	release   the owner lets go: the last reference to its file
 *	destroy   the kernel is done with it; always the last, and exactly once
 *
 * GET(pointer, field) is defined before this is included: a plain load where the
 * verifier knows the type (tp_btf, fentry), PEEK = bpf_probe_read_kernel elsewhere.
 *
 * What it costs is clocks, look-ups and runs, in this order; so a time which a segment
 * brings is taken from tcp_mstamp (the kernel has just read the same clock, to 1 us),
 * targets are looked up once, at the end, and a transition that adds nothing to what a
 * scan can read from the live socket returns before it touches the table.
 */
#ifndef HATRACE_TRACK_H
#define HATRACE_TRACK_H

#include "scope.h"

#define barrier() asm volatile("" ::: "memory")

#define SEND_SHUTDOWN 2 /* include/net/sock.h */
#define SOCK_DONE 1	/* enum sock_flags there: the peer's FIN was received */

#define PEEK(p, field) ({ \
	typeof((p)->field) v_ = 0; \
	read_kernel(&v_, sizeof(v_), &(p)->field); \
	v_; })

static inline struct losses *lost(void)
{
	u32 zero = 0;

	return map_get(MAP(MAP_LOSSES), &zero);
}

static inline struct target_total *total_of(u32 target)
{
	return map_get(MAP(MAP_TARGET_TOTALS), &target);
}

struct address {
	u64 words[2];
};

/* In two words: where they start is a multiple of 8, which memcpy() of bytes cannot know. */
static inline void copy_address(u8 *to, const u8 *from)
{
	((u64 *)to)[0] = ((u64 *)from)[0];
	((u64 *)to)[1] = ((u64 *)from)[1];
}

static inline void map_v4(u8 *to, u32 address)
{
	__builtin_memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, &address, 4);
}

/*
 * An index nobody else has, or TARGETS.  The hash decides who was first: an add that tells
 * what it added to is new in kernel 5.12.
 */
static inline u32 new_index(void)
{
	u32 which = COUNTER_TARGETS, index;
	u64 *given = map_get(MAP(MAP_COUNTERS), &which);
	u8 one = 1;

#pragma unroll
	for (int others = 0; given && others < 4; others++) {
		index = *given + 1 + others;
		if (index >= TARGETS)
			break;
		if (!map_set(MAP(MAP_TAKEN), &index, &one, NEW_ONLY)) {
			__sync_fetch_and_add(given, 1);
			return index;
		}
	}
	return TARGETS;
}

/* The target a flow counts for: found, made, or 0 where there is no room. */
static inline u32 target_of(struct flow *f)
{
	struct target_key key = {};
	struct losses *l;
	u32 *known, index;

	if (f->flags & FLOW_ACCEPTED) {
		key.direction = INBOUND;
		copy_address(key.addr, f->laddr);
		key.port = f->lport;
	} else {
		copy_address(key.addr, f->raddr);
		key.port = f->rport;
		key.pid = f->pid;
	}
	key.netns = f->netns;
	known = map_get(MAP(MAP_TARGET_INDEX), &key);
	if (known)
		return *known;
	index = new_index();
	if (index < TARGETS && !map_set(MAP(MAP_TARGET_INDEX), &key, &index, NEW_ONLY))
		return index;
	known = map_get(MAP(MAP_TARGET_INDEX), &key); /* another CPU was first? */
	l = lost();
	if (!known && l)
		l->targets_full++;
	return known ? *known : 0;
}

/* Bucket n holds lifetimes under 4^n us. */
static inline u32 lifetime_bucket(u64 ns)
{
	u64 us = ns / 1000;
	u32 log2 = 0;

	if (us >> 32)
		return LIFETIME_BUCKETS - 1;
	if (us >> 16) {
		log2 += 16;
		us >>= 16;
	}
	if (us >> 8) {
		log2 += 8;
		us >>= 8;
	}
	if (us >> 4) {
		log2 += 4;
		us >>= 4;
	}
	if (us >> 2) {
		log2 += 2;
		us >>= 2;
	}
	if (us)
		log2 += 1 + (us >> 1);
	log2 = (log2 + 1) >> 1;
	return log2 < LIFETIME_BUCKETS ? log2 : LIFETIME_BUCKETS - 1;
}

static inline void count_gone(struct flow *f)
{
	struct target_total *t;

	if (!f->target)
		f->target = target_of(f);
	t = total_of(f->target);
	if (!t)
		return;
	t->gone++;
	if (f->flags & FLOW_FAILED)
		t->failed++;
	if (f->flags & (FLOW_RST_SENT | FLOW_RST_RECEIVED))
		t->reset++;
	t->sent_bytes += f->sent_bytes;
	t->received_bytes += f->received_bytes;
	t->lifetime[lifetime_bucket(f->gone_ns - f->born_ns) & (LIFETIME_BUCKETS - 1)]++;
}

static inline void own(struct flow *f, u32 tgid)
{
	f->pid = tgid;
	f->flags |= FLOW_OWNED;
	bpf_get_current_comm(f->comm, sizeof(f->comm));
}

/* A flow leaves: it is counted, and told in one record.  Its gone_ns is set already. */
static inline void finish(struct flow *f)
{
	struct config *c = settings();
	struct losses *l;

	if (!c)
		return;
	f->id ^= c->secret; /* in the table it is the address: now it leaves */
	f->state = TCP_CLOSE;
	if (f->flags & (FLOW_CONNECTED | FLOW_ACCEPTED))
		count_gone(f);
	if (!c->summary && ring_put(MAP(MAP_RING), f, sizeof(*f), NO_WAKEUP) && (l = lost()))
		l->ring_full++;
}

/* The flow at an address; one that is gone keeps its place in the table, but counts as none. */
static inline struct flow *flow_of(u64 sk)
{
	struct flow *f = map_get(MAP(MAP_FLOWS), &sk);

	return f && !f->gone_ns ? f : NULL;
}

/*
 * A birth.  The kernel hands out the address of a dead socket again at once, so the place
 * of a flow that is gone serves the next: no entry is made or freed for most connections
 * (a scan drops those which nobody took over).  gone_ns is the last to be written: until
 * then nobody reads a mixture.
 *
 * Where the address is taken by a flow that lives, it either goes on (a second connect() of
 * one socket, one adopted before its connect() or listen()) or had no end that was seen.
 */
static inline void insert(u64 sk, struct flow *f)
{
	struct flow *old = map_get(MAP(MAP_FLOWS), &sk);
	struct losses *l;

	if (!old) {
		if (map_set(MAP(MAP_FLOWS), &sk, f, ANY) && (l = lost()))
			l->flows_full++;
		return;
	}
	if (!old->gone_ns && !old->released_ns && !(f->flags & FLOW_ACCEPTED)) {
		f->born_ns = old->born_ns;
		f->flags |= old->flags & FLOW_ADOPTED;
	} else if (!old->gone_ns && (l = lost())) {
		l->overwritten++;
		old->gone_ns = f->born_ns;
		finish(old);
	}
	f->gone_ns = 1;
	__builtin_memcpy(old, f, sizeof(*old));
	barrier();
	old->gone_ns = 0;
}

/*
 * Times of flows are whole multiples of 1,024 ns: finer they differ by noise, which costs a
 * capture a third of its size.
 */
static inline u64 whole(u64 ns)
{
	return ns & ~1023ULL;
}

static inline u64 now_ns(void)
{
	return whole(bpf_ktime_get_ns());
}

/* The time of the segment that is being worked on, as the kernel took it. */
static inline u64 segment_ns(struct sock *sk)
{
	struct tcp_sock *tp = skc_to_tcp_sock(sk);

	return tp ? whole(GET(tp, tcp_mstamp) * 1000) : 0;
}

static inline void fill_local(struct flow *f, struct sock *sk)
{
	u16 port = GET(sk, __sk_common.skc_num);

	if (port)
		f->lport = port;
	if (f->family == AF_INET) {
		map_v4(f->laddr, GET(sk, __sk_common.skc_rcv_saddr));
	} else {
		struct address *from = (void *)&sk->__sk_common.skc_v6_rcv_saddr;
		u64 *to = (u64 *)f->laddr;

		to[0] = GET(from, words[0]);
		to[1] = GET(from, words[1]);
	}
}

static inline void fill_remote(struct flow *f, struct sock *sk)
{
	f->rport = __builtin_bswap16(GET(sk, __sk_common.skc_dport));
	if (f->family == AF_INET) {
		map_v4(f->raddr, GET(sk, __sk_common.skc_daddr));
	} else {
		struct address *from = (void *)&sk->__sk_common.skc_v6_daddr;
		u64 *to = (u64 *)f->raddr;

		to[0] = GET(from, words[0]);
		to[1] = GET(from, words[1]);
	}
}

static inline void peek_local(struct flow *f, struct sock *sk)
{
	if (f->family == AF_INET)
		map_v4(f->laddr, PEEK(sk, __sk_common.skc_rcv_saddr));
	else
		read_kernel(f->laddr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
}

static inline void peek_addresses(struct flow *f, struct sock *sk)
{
	peek_local(f, sk);
	if (f->family == AF_INET)
		map_v4(f->raddr, PEEK(sk, __sk_common.skc_daddr));
	else
		read_kernel(f->raddr, 16, &sk->__sk_common.skc_v6_daddr);
}

static inline void fill_netns(struct flow *f, struct sock *sk)
{
	struct net *net = GET(sk, __sk_common.skc_net.net);

	f->netns = GET(net, ns.inum);
}

static inline u32 inode_of(struct socket *socket)
{
	struct socket_alloc *both = (struct socket_alloc *)socket;

	return socket ? PEEK(both, vfs_inode.i_ino) : 0;
}

/* connect(): runs as the caller, once for each attempt, before a port is chosen. */
static inline void on_connect(u64 sk, u8 family, const u8 *raddr, u16 rport)
{
	struct config *c = settings();
	u32 tgid = current_tgid();
	struct flow f = {};

	if (!c || !in_scope(c, tgid))
		return;
	f.id = sk;
	f.born_ns = f.connect_ns = now_ns();
	f.family = family;
	f.state = TCP_SYN_SENT;
	f.flags = FLOW_CONNECTED;
	__builtin_memcpy(f.raddr, raddr, 16);
	f.rport = rport;
	own(&f, tgid);
	insert(sk, &f);
}

/* The handshake of a listener's child is done.  Runs as anybody. */
static inline void on_child(struct sock *sk)
{
	struct config *c = settings();
	struct flow f = {};
	u64 key = (u64)sk;

	f.lport = GET(sk, __sk_common.skc_num);
	if (!c || (c->scope != SCOPE_ALL && !listened_on(f.lport)))
		return;
	f.id = key;
	f.born_ns = f.established_ns = segment_ns(sk);
	f.family = GET(sk, __sk_common.skc_family);
	f.state = TCP_ESTABLISHED;
	f.flags = FLOW_ACCEPTED;
	fill_local(&f, sk);
	fill_remote(&f, sk);
	fill_netns(&f, sk);
	insert(key, &f);
}

/* A child whose handshake no hook saw (a nested run): born when it is accepted. */
static inline void missed_child(struct config *c, u64 key, u32 tgid)
{
	struct sock *sk = (struct sock *)key;
	struct net *net = PEEK(sk, __sk_common.skc_net.net);
	struct flow f = {};

	f.lport = PEEK(sk, __sk_common.skc_num);
	if (!listened_on(f.lport) || !in_scope(c, tgid))
		return;
	f.id = key;
	f.born_ns = f.established_ns = now_ns();
	f.family = PEEK(sk, __sk_common.skc_family);
	f.state = TCP_ESTABLISHED;
	f.flags = FLOW_ACCEPTED;
	f.rport = __builtin_bswap16(PEEK(sk, __sk_common.skc_dport));
	f.netns = PEEK(net, ns.inum);
	peek_addresses(&f, sk);
	own(&f, tgid);
	if (map_get(MAP(MAP_FLOWS), &key))
		insert(key, &f);
	else /* where there was no room for it, that was counted at the handshake */
		map_set(MAP(MAP_FLOWS), &key, &f, NEW_ONLY);
}

/* accept(): runs as the caller.  ``sk`` is the child. */
static inline void on_accept(u64 sk)
{
	struct flow *f = flow_of(sk);
	struct config *c = settings();
	u32 tgid = current_tgid();

	if (!c)
		return;
	if (!f) {
		missed_child(c, sk, tgid);
		return;
	}
	if (f->flags & FLOW_OWNED || !(f->flags & FLOW_ACCEPTED))
		return;
	if (!in_scope(c, tgid)) { /* somebody else's listener on the same port */
		f->gone_ns = f->born_ns;
		return;
	}
	own(f, tgid);
}

static inline void on_established(struct sock *sk)
{
	u64 key = (u64)sk;
	struct flow *f = flow_of(key);

	if (!f)
		return;
	f->established_ns = segment_ns(sk);
	f->state = TCP_ESTABLISHED;
	fill_local(f, sk);
	fill_netns(f, sk);
}

/* listen(): the state changes in the caller, the one such change that has an owner. */
static inline void on_listen(struct sock *sk)
{
	struct config *c = settings();
	u32 tgid = current_tgid();
	u64 key = (u64)sk;
	struct flow f = {};

	if (!c || !in_scope(c, tgid))
		return;
	f.id = key;
	f.born_ns = now_ns();
	f.family = GET(sk, __sk_common.skc_family);
	f.state = TCP_LISTEN;
	f.flags = FLOW_LISTENER;
	f.inode = inode_of(GET(sk, sk_socket));
	fill_local(&f, sk);
	fill_netns(&f, sk);
	own(&f, tgid);
	listen_on(f.lport);
	insert(key, &f);
}

/*
 * The payload so far.  tcp_disconnect() clears it, so it is read before and not again.
 * The kernel counts the peer's FIN as a byte received; SOCK_DONE says that it came.
 */
static inline void fill_bytes(struct flow *f, struct tcp_sock *tp)
{
	u64 fin = GET((struct sock *)tp, __sk_common.skc_flags) >> SOCK_DONE & 1;

	f->sent_bytes = GET(tp, bytes_sent) - GET(tp, bytes_retrans);
	f->received_bytes = GET(tp, bytes_received) - fin;
	if (fin)
		f->flags |= FLOW_FIN_RECEIVED;
}

/* Where a socket without a file is no orphan on its way out, but was never accepted. */
#define HELD_STATES (1 << TCP_ESTABLISHED | 1 << TCP_SYN_SENT | 1 << TCP_CLOSE_WAIT)

/* The connection is over.  Orphans, whose destruction follows at once, need no visit. */
static inline void on_closed(struct sock *sk, int old)
{
	u64 key = (u64)sk;
	struct tcp_sock *tp;
	struct flow *f;

	if (!GET(sk, sk_socket) && !(HELD_STATES >> old & 1))
		return;
	f = flow_of(key);
	if (!f)
		return;
	tp = skc_to_tcp_sock(sk);
	if (tp)
		fill_bytes(f, tp);
	f->state = TCP_CLOSE;
	f->error = GET(sk, sk_err);
	fill_netns(f, sk);
	if (!f->lport) { /* never established: its end is the first look at what it was bound to */
		struct inet_sock *inet = (struct inet_sock *)sk;

		fill_local(f, sk);
		if (!f->lport) /* the port is given back, its copy still stands */
			f->lport = __builtin_bswap16(PEEK(inet, inet_sport));
	}
	f->closed_ns = now_ns();
	if (!f->released_ns && GET(sk, sk_shutdown) & SEND_SHUTDOWN)
		f->flags |= FLOW_FIN_SENT;
	if (old == TCP_SYN_SENT || old == TCP_SYN_RECV)
		f->flags |= FLOW_FAILED;
	else if (old != TCP_LISTEN && !(f->flags & FLOW_RST_RECEIVED) &&
		 (f->released_ns || !GET(sk, sk_socket))) /* or: its listener closed, unaccepted */
		f->flags |= FLOW_RST_SENT;
}

/* inet_sock_set_state.  Runs as anybody: never take an owner from here. */
static inline void on_state(struct sock *sk, int old, int new)
{
	u64 key = (u64)sk;
	struct flow *f;

	switch (new) {
	case TCP_ESTABLISHED:
		/* From SYN_RECV with a file: both ends called connect() (RFC 9293, 3.5). */
		if (old == TCP_SYN_SENT || (GET(sk, sk_socket) && flow_of(key)))
			on_established(sk);
		else
			on_child(sk);
		return;
	case TCP_LISTEN:
		on_listen(sk);
		return;
	case TCP_CLOSE:
		on_closed(sk, old);
		return;
	case TCP_CLOSE_WAIT:
	case TCP_CLOSING:
		f = flow_of(key);
		if (!f)
			return;
		f->state = new;
		f->flags |= FLOW_FIN_RECEIVED;
		f->fin_ns = segment_ns(sk);
		return;
	}
}

static inline void on_reset(u64 sk)
{
	struct flow *f = flow_of(sk);

	if (f)
		f->flags |= FLOW_RST_RECEIVED;
}

/* inet_release: the owner lets go.  Runs as the last closer. */
static inline void on_release(u64 sk)
{
	struct flow *f = flow_of(sk);
	u32 tgid = current_tgid();

	if (!f)
		return;
	if (!(f->flags & FLOW_OWNED)) { /* accepted without asking for the address */
		struct config *c = settings();

		if (!c || !in_scope(c, tgid)) {
			f->gone_ns = f->born_ns;
			return;
		}
		own(f, tgid);
	}
	f->released_ns = now_ns();
	f->closer = tgid;
}

/* tcp_destroy_sock: the end.  Runs as anybody. */
static inline void on_destroy(struct sock *sk)
{
	u64 key = (u64)sk;
	struct flow *f = flow_of(key);
	struct tcp_sock *tp;

	if (!f)
		return;
	f->gone_ns = f->released_ns; /* or the segment that ended it, if that came later */
	tp = skc_to_tcp_sock(sk);
	if (tp) {
		u64 last_ns = whole(GET(tp, tcp_mstamp) * 1000);

		if (last_ns > f->gone_ns)
			f->gone_ns = last_ns;
		if (!f->closed_ns)
			fill_bytes(f, tp);
	}
	if (!f->closed_ns && f->established_ns && f->released_ns)
		f->flags |= FLOW_FIN_SENT;
	finish(f);
}

#endif
