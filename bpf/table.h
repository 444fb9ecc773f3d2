/* SPDX-License-Identifier: GPL-2.0-only */
/* table.h: the flows by the address of their socket: how one comes in, and how it leaves. */
#ifndef HATRACE_TABLE_H
#define HATRACE_TABLE_H

#include "calm.h"
#include "lanes.h"
#include "scope.h"
#include "targets.h"

#define BEING_WRITTEN 1 /* of gone_ns */

/* The running process becomes the owner, if it is traced. */
static inline int own(struct config *c, struct flow *f, u32 tgid)
{
	if (!in_scope(c, tgid, f->comm))
		return 0;
	f->pid = tgid;
	f->flags |= FLOW_OWNED;
	return 1;
}

/*
 * Whether its owner is known.  Two CPUs may write one child at once, its handshake's hook and its
 * accept()'s: of that the flag may be left without the pid, which the next look then finds.
 */
static inline int is_owned(struct flow *f)
{
	return f->flags & FLOW_OWNED && f->pid;
}

enum way { BY_RING, BY_LANE };

/* A flow leaves: it is counted, and told in one record.  Its gone_ns is set already. */
static inline void finish(struct flow *f, enum way way)
{
	struct config *c = settings();
	struct losses *l;

	if (!c)
		return;
	f->id ^= c->secret; /* in the table it is the address: now it leaves */
	f->state = TCP_CLOSE;
	if (!f->closed_ns && f->established_ns && f->released_ns)
		f->flags |= FLOW_FIN_SENT;
	if (!f->closed_ns && !f->established_ns && !(f->flags & FLOW_ADOPTED) &&
	    f->flags & FLOW_CONNECTED) /* refused before a SYN: no route, a policy */
		f->flags |= FLOW_FAILED;
	if (f->flags & (FLOW_CONNECTED | FLOW_ACCEPTED))
		count_gone(f);
	if (c->summary || (way == BY_LANE && put_in_lane(c, f)))
		return;
	if (ring_put(MAP(MAP_RING), f, sizeof(*f), NO_WAKEUP) && (l = lost()))
		l->ring_full++;
}

/* The flow at an address; one that is gone keeps its place in the table, but counts as none. */
static inline struct flow *flow_of(u64 sk)
{
	struct flow *f = map_get(MAP(MAP_FLOWS), &sk);

	return f && !f->gone_ns ? f : NULL;
}

/* Which flow it was that a hook has looked at: its place may be another's a moment later. */
struct seen {
	u64 born_ns;
	u64 released_ns;
};

static inline struct seen seen_in(struct flow *f)
{
	return (struct seen){*(volatile u64 *)&f->born_ns, *(volatile u64 *)&f->released_ns};
}

#define EXISTS (-17) /* -EEXIST, include/uapi/asm-generic/errno-base.h */

/*
 * An end that no hook told, and that shows now.  Told from a copy: its place may be the next one's
 * a moment later.  The copy is also the claim to tell it: whoever finds one goes on, as another
 * CPU is telling it.
 */
static inline void end_late(u64 sk, struct flow *f, struct seen seen, u64 at_ns)
{
	int failed = map_set(MAP(MAP_LAST), &sk, f, NEW_ONLY);
	struct losses *l = lost();
	struct flow *last;

	if (failed) {
		if (failed != EXISTS && l)
			l->ring_full++;
		return;
	}
	last = map_get(MAP(MAP_LAST), &sk);
	if (last && l && !last->gone_ns && last->born_ns == seen.born_ns &&
	    last->released_ns == seen.released_ns) {
		l->overwritten++;
		last->gone_ns = at_ns;
		if (*(volatile u64 *)&f->born_ns == seen.born_ns)
			f->gone_ns = at_ns;
		finish(last, BY_RING);
	}
	map_drop(MAP(MAP_LAST), &sk);
}

/*
 * The flow of a socket to which its owner does something.  One that was let go before is
 * another's, whose end no hook told.
 */
static inline struct flow *owned_flow(u64 sk)
{
	struct flow *f = flow_of(sk);
	struct seen seen;

	if (!f)
		return NULL;
	seen = seen_in(f);
	if (!seen.released_ns)
		return f;
	end_late(sk, f, seen, now_ns());
	return NULL;
}

static inline int same_ends(struct flow *a, struct flow *b)
{
	u64 *one = (u64 *)a->laddr, *other = (u64 *)b->laddr; /* raddr follows */

	return a->lport == b->lport && a->rport == b->rport && one[0] == other[0] &&
	       one[1] == other[1] && one[2] == other[2] && one[3] == other[3];
}

/* Of one child, the hooks of its handshake and of its accept() are no further apart. */
#define AT_ONCE_NS 100000000ULL

/*
 * fexit of accept() and the end of the handshake may be told at once on two CPUs, in either
 * order: the same child, whose owner one of them knows.  (The other rungs hook accept() where it
 * waits for the handshake.)
 */
static inline int same_child(struct flow *old, u64 gone_ns, struct flow *f)
{
	if (!(old->flags & f->flags & FLOW_ACCEPTED) || !((old->flags ^ f->flags) & FLOW_OWNED) ||
	    !same_ends(old, f))
		return 0;
	if (gone_ns) /* its handshake is told after its end: a later child's is later */
		return !(f->flags & FLOW_OWNED) && f->born_ns <= gone_ns;
	return f->born_ns - old->born_ns + AT_ONCE_NS < 2 * AT_ONCE_NS;
}

/* What the later one adds. */
static inline void merge(struct flow *old, struct flow *f)
{
	if (!(f->flags & FLOW_OWNED))
		return;
	old->pid = f->pid;
	__builtin_memcpy(old->comm, f->comm, sizeof(old->comm));
	old->flags |= FLOW_OWNED;
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
	struct seen seen;
	u64 gone_ns;

	if (!old) {
		if (!map_set(MAP(MAP_FLOWS), &sk, f, ANY))
			look_at(sk);
		else if ((l = lost()))
			l->flows_full++;
		return;
	}
	seen = seen_in(old);
	gone_ns = *(volatile u64 *)&old->gone_ns; /* once: another CPU may write it meanwhile */
	if (gone_ns == BEING_WRITTEN)
		return; /* there, of the same child */
	if (same_child(old, gone_ns, f)) {
		merge(old, f);
		return;
	}
	if (!gone_ns && !seen.released_ns && !(f->flags & FLOW_ACCEPTED)) {
		f->born_ns = seen.born_ns;
		f->flags |= old->flags & FLOW_ADOPTED;
	} else if (!gone_ns) {
		end_late(sk, old, seen, f->born_ns);
	}
	wake(sk, old);
	f->gone_ns = BEING_WRITTEN;
	__builtin_memcpy(old, f, __builtin_offsetof(struct flow, calm));
	barrier();
	old->gone_ns = 0;
}

#endif
