/* SPDX-License-Identifier: GPL-2.0-only */
/* targets.h: totals by remote address and port, and what found no room, was lost or came late. */
#ifndef HATRACE_TARGETS_H
#define HATRACE_TARGETS_H

#include "peek.h"

static inline struct losses *lost(void)
{
	u32 zero = 0;

	return map_get(MAP(MAP_LOSSES), &zero);
}

static inline struct target_total *total_of(u32 target)
{
	return map_get(MAP(MAP_TARGET_TOTALS), &target);
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

#endif
