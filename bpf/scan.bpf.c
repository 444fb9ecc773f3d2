// SPDX-License-Identifier: GPL-2.0-only
/*
 * The flows which are not calm, or all: reports those which meet the criteria, refreshed from
 * the live socket; counts what is open, and tells the ends which no hook has seen.
 *
 * Runs in the reader's context and costs traffic nothing.  No iterator of a map: some kernels
 * refuse these.  User space reads the keys of a map, some at a time, and runs a loop which calls
 * this for each (kernel/walk.py): whoever else wants the CPU gets it in between.
 */
#include <linux/types.h>
#include <linux/fs.h>
#include <linux/net.h>
#include <linux/tcp.h>
#include <net/sock.h>

#define GET(p, field) PEEK(p, field)

#include "table.h"

/* Where this side has shut its sending half. */
#define FIN_STATES (1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 | 1 << TCP_CLOSING | 1 << TCP_LAST_ACK)

static inline u64 moved_ns(struct tcp_sock *tp, u64 now, u32 hz)
{
	struct inet_connection_sock *icsk = (void *)tp;
	u32 at = jiffies_now();
	u32 sent = at - PEEK(tp, lsndtime), received = at - PEEK(icsk, icsk_ack.lrcvtime);
	u32 idle = sent < received ? sent : received;
	u64 idle_ns = (u64)idle * (1000000000 / hz);

	return idle_ns < now ? now - idle_ns : 0;
}

/* What the table does not keep up to date, from the socket itself. */
static inline void refresh(struct flow *f, struct sock *sk, u64 now, u32 hz)
{
	struct tcp_sock *tp = (void *)sk;

	f->state = PEEK(sk, __sk_common.skc_state);
	if (FIN_STATES >> f->state & 1)
		f->flags |= FLOW_FIN_SENT;
	f->cookie = PEEK(sk, __sk_common.skc_cookie.counter);
	if (!f->lport) { /* connect() has chosen it since */
		f->lport = PEEK(sk, __sk_common.skc_num);
		peek_local(f, sk);
	}
	if (f->state == TCP_LISTEN) {
		f->unread_bytes = PEEK(sk, sk_ack_backlog);
		f->unsent_bytes = PEEK(sk, sk_max_ack_backlog);
		return;
	}
	if (f->state == TCP_SYN_SENT)
		return;
	f->moved_ns = moved_ns(tp, now, hz);
	if (!f->closed_ns)
		fill_bytes(f, tp);
	f->unread_bytes = PEEK(tp, rcv_nxt) - PEEK(tp, copied_seq);
	if (f->unread_bytes && f->flags & FLOW_FIN_RECEIVED)
		f->unread_bytes--; /* as tcp_inq() does */
	if (f->state != TCP_CLOSE) {
		f->unsent_bytes = PEEK(tp, write_seq) - PEEK(tp, snd_una);
	}
}

static inline int older(u64 now, u64 since, u64 limit)
{
	return limit && since && now > since && now - since > limit;
}

/* Whether user space asked for such a flow. */
static inline int suspect(struct criteria *c, struct flow *f, u64 now)
{
	u64 *watched = map_get(MAP(MAP_WATCH_NS), &f->target), quiet;

	if (c->everything || (watched && older(now, f->born_ns, *watched)))
		return 1;
	if (f->released_ns)
		return older(now, f->released_ns, c->orphan_ns);
	switch (f->state) {
	case TCP_LISTEN:
		return 1;
	case TCP_CLOSE:
		return older(now, f->closed_ns ? f->closed_ns : f->born_ns, c->ghost_ns);
	case TCP_CLOSE_WAIT:
		return older(now, f->fin_ns ? f->fin_ns : f->born_ns, c->half_closed_ns);
	case TCP_SYN_SENT:
		return older(now, f->connect_ns ? f->connect_ns : f->born_ns, c->unanswered_ns);
	}
	quiet = f->moved_ns > f->established_ns ? f->moved_ns : f->established_ns;
	return older(now, quiet, c->idle_ns);
}

/* A gone flow whose address nobody has taken over for so long: its memory went elsewhere. */
#define UNCLAIMED_NS 10000000000ULL

static inline u16 rport_of(struct sock *sk)
{
	return __builtin_bswap16(PEEK(sk, __sk_common.skc_dport));
}

/* Whether the memory is another socket's by now; its owner may bind it anew while it holds it. */
static inline int is_anothers(struct flow *f, struct sock *sk, u16 rport)
{
	u16 lport = PEEK(sk, __sk_common.skc_num);
	int fixed = f->flags & FLOW_ACCEPTED || f->released_ns;

	if (!rport || !f->rport || rport == f->rport)
		return fixed && lport && f->lport && lport != f->lport;
	/* Another program may have sent connect() elsewhere, after our hook: it has its own port still. */
	return f->flags & FLOW_ACCEPTED || (f->lport && lport != f->lport);
}

/*
 * A tracepoint's program does not run while it runs on the same CPU already: one that a
 * softirq interrupts may so miss an end (one in some hundred where interrupts bring packets to
 * two busy CPUs, tests/kernel/test_interrupted.py; none within a sender's call).  Then nobody
 * refers to the socket any more, or its memory is another socket's.
 */
static inline int ended_unseen(struct flow *f, struct sock *sk, u16 rport)
{
	return !PEEK(sk, __sk_common.skc_refcnt.refs.counter) || is_anothers(f, sk, rport);
}

/* A socket that is freed, and not used again yet, still says when it ended, and its bytes. */
static inline int end_if_unseen(struct flow *f, struct sock *sk, u64 now)
{
	struct tcp_sock *tp = (void *)sk;
	u16 rport = rport_of(sk);
	u64 at = whole(now);

	if (!ended_unseen(f, sk, rport))
		return 0;
	if (*(volatile u64 *)&f->gone_ns) /* seen meanwhile: it is told before it is freed */
		return 1;
	if (f->released_ns && f->rport && rport == f->rport && !is_anothers(f, sk, rport)) {
		u64 last_ns = latest(f->released_ns, segment_ns(tp));

		if (last_ns < at)
			at = last_ns;
		if (!f->closed_ns)
			fill_bytes(f, tp);
	}
	end_late((u64)sk, f, seen_in(f), at);
	return 1;
}

/* What the hooks may so have missed of a flow that is open: seen now. */
static inline void catch_up(struct flow *f, struct sock *sk, u64 now)
{
	u8 state = PEEK(sk, __sk_common.skc_state);

	if (f->released_ns)
		return;
	if (state == TCP_ESTABLISHED && f->state == TCP_SYN_SENT) {
		f->state = state;
		if (!f->established_ns)
			f->established_ns = whole(now);
	}
	if (f->flags & FLOW_ADOPTED)
		return;
	if (state == TCP_CLOSE_WAIT && !f->fin_ns)
		f->fin_ns = whole(now);
	if (state == TCP_CLOSE && !f->closed_ns && f->established_ns)
		f->closed_ns = whole(now);
}

static inline void count(void *counts, u32 target, s64 more)
{
	u64 *open = map_get(counts, &target);

	if (open)
		*open += more;
}

/* Established, held, of a known target, and nobody asked for such: of these there are most. */
static inline int settled(struct flow *f)
{
	u32 target = f->target;
	u64 *watched_ns;

	if (f->state != TCP_ESTABLISHED || !f->inode || !target || f->released_ns || f->gone_ns)
		return 0;
	watched_ns = map_get(MAP(MAP_WATCH_NS), &target);
	return watched_ns && !*watched_ns;
}

/* Whether a calm flow is what it was, and nobody asks for such now. */
static inline int still_calm(struct criteria *c, struct flow *f, struct sock *sk)
{
	if (c->everything || c->idle_ns || !f->calm || f->calm & WOKEN || !settled(f))
		return 0;
	return PEEK(sk, __sk_common.skc_state) == TCP_ESTABLISHED &&
	       !ended_unseen(f, sk, rport_of(sk));
}

/* No scan looks at a calm flow from now on, unless a hook has come in between. */
static inline void look_away(struct flow *f, u64 sk)
{
	map_drop(MAP(MAP_LOOKS), &sk);
	if (f->calm & WOKEN || !settled(f))
		look_at(sk);
}

static inline void calm_down(struct flow *f, u64 sk)
{
	count(MAP(MAP_TARGET_CALM), f->target, 1);
	f->calm = f->target;
	look_away(f, sk);
}

/* A hook has woken it, or the scan comes to all: whether it is calm shows now. */
static inline void uncalm(struct criteria *c, struct flow *f)
{
	if (f->calm && !c->whole) /* a scan of all counts from 0 */
		count(MAP(MAP_TARGET_CALM), f->calm & ~WOKEN, -1);
	f->calm = 0;
}

/* It is one of those that scans look at; that it is not shows where a scan goes through all. */
static inline void keep_looking(struct criteria *c, u64 sk)
{
	if (c->whole && !map_get(MAP(MAP_LOOKS), &sk))
		look_at(sk);
}

/* Nothing to look at, unless a hook has come in between. */
static inline void no_flow_there(u64 sk)
{
	map_drop(MAP(MAP_LOOKS), &sk);
	if (map_get(MAP(MAP_FLOWS), &sk))
		look_at(sk);
}

/* A gone flow keeps its place, and its place in `looks`, for the next at this address. */
static inline int unclaimed(struct flow *f, u64 now)
{
	return f->gone_ns != BEING_WRITTEN && older(now, f->gone_ns, UNCLAIMED_NS);
}

/* One that meets the criteria; beyond the limit they are counted only. */
static inline void report(struct criteria *c, struct flow *f)
{
	u64 *matched = counter(COUNTER_MATCHED);
	struct flow *to;
	u32 at;

	if (!matched)
		return;
	at = *matched;
	*matched += 1;
	to = at < c->limit ? map_get(MAP(MAP_REPORT), &at) : NULL;
	if (to)
		__builtin_memcpy(to, f, sizeof(*f));
}

static inline void look(struct criteria *c, struct config *s, struct flow *known, u64 key)
{
	struct sock *sk = (struct sock *)key;
	struct flow f;
	u64 now;

	if (still_calm(c, known, sk)) {
		if (c->whole)
			count(MAP(MAP_TARGET_CALM), known->calm, 1);
		else /* counted already; a hook had come in between */
			look_away(known, key);
		return;
	}
	uncalm(c, known);
	now = bpf_ktime_get_ns();
	if (known->gone_ns && unclaimed(known, now)) {
		map_drop(MAP(MAP_FLOWS), &key);
		no_flow_there(key);
		return;
	}
	if (known->gone_ns || end_if_unseen(known, sk, now)) {
		keep_looking(c, key);
		return;
	}
	if (!known->netns) /* connect() has not told it: before its target, which it is part of */
		fill_netns(known, sk);
	if (!known->target && known->flags & (FLOW_CONNECTED | FLOW_ACCEPTED))
		known->target = target_of(known);
	if (!known->inode && !known->released_ns)
		known->inode = inode_of(PEEK(sk, sk_socket));
	catch_up(known, sk, now);
	__builtin_memcpy(&f, known, sizeof(f));
	refresh(&f, sk, now, s->hz);
	if (suspect(c, &f, now)) {
		f.id ^= s->secret;
		report(c, &f);
	}
	if (settled(&f)) {
		calm_down(known, key);
	} else {
		keep_looking(c, key);
		count(MAP(MAP_TARGET_OPEN), f.target, 1);
	}
}

/* The flow at the n-th of the keys that were read; 0 after the last of them. */
int bpf_iter__scan(u64 place)
{
	u32 zero = 0, at = place;
	struct criteria *c = map_get(MAP(MAP_CRITERIA), &zero);
	u64 *key = map_get(MAP(MAP_KEYS), &at), sk;
	struct config *s = settings();
	struct flow *known;

	if (!c || !s || !s->hz || !key || !*key)
		return 0;
	sk = *key;
	known = map_get(MAP(MAP_FLOWS), &sk);
	if (known)
		look(c, s, known, sk);
	else
		no_flow_there(sk);
	return 1;
}
