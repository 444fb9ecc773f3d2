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
 * What it costs is clocks, look-ups and runs, in this order; so a time which a segment
 * brings is taken from tcp_mstamp (the kernel has just read the same clock, to 1 us),
 * targets are looked up once, at the end, and a transition that adds nothing to what a
 * scan can read from the live socket returns before it touches the table.
 */
#ifndef HATRACE_TRACK_H
#define HATRACE_TRACK_H

#include "table.h"

#define SEND_SHUTDOWN 2 /* include/net/sock.h */

/* connect(): runs as the caller, once for each attempt, before a port is chosen. */
static inline void on_connect(u64 sk, u8 family, const u8 *raddr, u16 rport)
{
	struct config *c = settings();
	u32 tgid = current_tgid();
	struct flow f = {};

	if (!c || !own(c, &f, tgid))
		return;
	f.id = sk;
	f.born_ns = f.connect_ns = now_ns();
	f.family = family;
	f.state = TCP_SYN_SENT;
	f.flags |= FLOW_CONNECTED;
	__builtin_memcpy(f.raddr, raddr, 16);
	f.rport = rport;
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
	f.born_ns = f.established_ns = segment_ns(skc_to_tcp_sock(sk));
	f.family = GET(sk, __sk_common.skc_family);
	f.state = TCP_ESTABLISHED;
	f.flags = FLOW_ACCEPTED;
	fill_local(&f, sk);
	fill_remote(&f, sk);
	fill_netns(&f, sk);
	insert(key, &f);
}

/* Whether a socket that is not in the table may be the child of a listener in scope. */
static inline int may_be_child(u64 sk)
{
	return listened_on(PEEK((struct sock *)sk, __sk_common.skc_num));
}

/*
 * A child whose handshake no hook saw: born when it is accepted; with FLOW_ADOPTED it was not
 * seen then, either, and its times are unknown.  Where there was no room for it, that was
 * counted at the handshake.
 */
static inline void missed_child(struct config *c, u64 key, u32 tgid, u16 flags)
{
	struct sock *sk = (struct sock *)key;
	struct net *net = PEEK(sk, __sk_common.skc_net.net);
	struct flow f = {};

	f.lport = PEEK(sk, __sk_common.skc_num);
	f.rport = __builtin_bswap16(PEEK(sk, __sk_common.skc_dport));
	if (!f.rport || !own(c, &f, tgid))
		return;
	f.id = key;
	f.born_ns = now_ns();
	f.family = PEEK(sk, __sk_common.skc_family);
	f.state = TCP_ESTABLISHED;
	f.flags |= FLOW_ACCEPTED | flags;
	f.netns = PEEK(net, ns.inum);
	peek_addresses(&f, sk);
	if (!(flags & FLOW_ADOPTED))
		f.established_ns = f.born_ns;
	if (map_get(MAP(MAP_FLOWS), &key))
		insert(key, &f);
	else if (!map_set(MAP(MAP_FLOWS), &key, &f, NEW_ONLY))
		look_at(key);
	else
		return;
	if (flags & FLOW_ADOPTED)
		count_adopted(&f);
}

/* accept(): runs as the caller.  ``sk`` is the child. */
static inline void on_accept(u64 sk)
{
	struct flow *f = owned_flow(sk);
	struct config *c = settings();
	u32 tgid = current_tgid();

	if (!c)
		return;
	if (!f) {
		if (may_be_child(sk))
			missed_child(c, sk, tgid, 0);
		return;
	}
	if (is_owned(f) || !(f->flags & FLOW_ACCEPTED))
		return;
	if (!own(c, f, tgid)) { /* somebody else's listener on the same port */
		f->gone_ns = f->born_ns;
		wake(sk, f);
	}
}

static inline void on_established(struct sock *sk)
{
	u64 key = (u64)sk;
	struct flow *f = flow_of(key);

	if (!f)
		return;
	f->established_ns = segment_ns(skc_to_tcp_sock(sk));
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

	if (!c || !own(c, &f, tgid))
		return;
	f.id = key;
	f.born_ns = now_ns();
	f.family = GET(sk, __sk_common.skc_family);
	f.state = TCP_LISTEN;
	f.flags |= FLOW_LISTENER;
	f.inode = inode_of(GET(sk, sk_socket));
	fill_local(&f, sk);
	fill_netns(&f, sk);
	listen_on(f.lport);
	insert(key, &f);
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
	wake(key, f);
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
		f->fin_ns = segment_ns(skc_to_tcp_sock(sk));
		wake(key, f);
		return;
	}
}

static inline void on_reset(u64 sk)
{
	struct flow *f = flow_of(sk);

	if (f)
		f->flags |= FLOW_RST_RECEIVED;
}

/* A connection that is let go, and whose handshake no hook saw: there was one if it has a state. */
static inline void missed_handshake(struct flow *f, struct sock *sk)
{
	struct net *net = PEEK(sk, __sk_common.skc_net.net);
	u16 lport = PEEK(sk, __sk_common.skc_num);
	u8 state = PEEK(sk, __sk_common.skc_state);

	f->netns = PEEK(net, ns.inum);
	if (lport) {
		f->lport = lport;
		peek_local(f, sk);
	}
	if (state != TCP_SYN_SENT && state != TCP_CLOSE)
		f->established_ns = f->released_ns;
}

/* inet_release: the owner lets go.  Runs as the last closer. */
static inline void on_release(u64 sk)
{
	struct flow *f = owned_flow(sk);
	struct config *c = settings();
	u32 tgid = current_tgid();

	if (!c)
		return;
	if (!f && may_be_child(sk)) {
		missed_child(c, sk, tgid, FLOW_ADOPTED);
		f = flow_of(sk);
	}
	if (!f)
		return;
	if (!is_owned(f) && !own(c, f, tgid)) { /* accepted without a word, by others */
		f->gone_ns = f->born_ns;
		wake(sk, f);
		return;
	}
	f->released_ns = now_ns();
	f->closer = tgid;
	if (!f->established_ns && f->flags & FLOW_CONNECTED && !(f->flags & FLOW_ADOPTED))
		missed_handshake(f, (struct sock *)sk);
	wake(sk, f);
}

/* tcp_destroy_sock: the end.  Runs as anybody. */
static inline void on_destroy(struct sock *sk)
{
	u64 key = (u64)sk;
	struct flow *f = flow_of(key);
	struct tcp_sock *tp;

	if (!f)
		return;
	tp = skc_to_tcp_sock(sk);
	f->gone_ns = latest(f->released_ns, segment_ns(tp)); /* of the segment that ended it */
	if (tp && !f->closed_ns)
		fill_bytes(f, tp);
	finish(f, BY_LANE);
	wake(key, f);
}

#endif
