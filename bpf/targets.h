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

/* User space reads the keys again when there are more. */
static inline void made_target(void)
{
	u64 *made = counter(COUNTER_TARGETS);

	if (made)
		__sync_fetch_and_add(made, 1);
}

/* The target a flow counts for: found, made, or 0 where there is no room. */
static inline u32 target_of(struct flow *f)
{
	struct target_key key = {};
	u32 *known, index = 0;

	if (f->flags & FLOW_ACCEPTED) {
		key.direction = INBOUND;
		copy_16(key.addr, f->laddr);
		key.port = f->lport;
	} else {
		copy_16(key.addr, f->raddr);
		key.port = f->rport;
		key.pid = f->pid;
	}
	key.netns = f->netns;
	known = map_get(MAP(MAP_TARGET_INDEX), &key);
	if (known)
		return *known;
	if (!map_pop(MAP(MAP_FREE_TARGETS), &index)) {
		if (!map_set(MAP(MAP_TARGET_INDEX), &key, &index, NEW_ONLY)) {
			made_target();
			return index;
		}
		map_push(MAP(MAP_FREE_TARGETS), &index, ANY);
	}
	known = map_get(MAP(MAP_TARGET_INDEX), &key); /* another CPU was first? */
	return known ? *known : 0;
}

static inline void count_adopted(struct flow *f)
{
	struct target_total *t = total_of(target_of(f));

	if (t)
		t->adopted++;
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
	struct losses *l;

	if (!f->target)
		f->target = target_of(f);
	if (!f->target && (l = lost()))
		l->targets_full++;
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
