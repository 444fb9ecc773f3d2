/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lanes.h: a way to user space for each CPU, beside the ring, without its lock.
 *
 * Only one program uses them (tcp_destroy_sock), with preemption off: what may come in between
 * on the same CPU is an interrupt (before kernel 6.1 it may bring the same program), which finds
 * the lane busy and takes the ring.  So does one that finds the lane full.  User space sees a
 * record once `written` says so: stores stay in order on x86; elsewhere only the ring is used.
 */
#ifndef HATRACE_LANES_H
#define HATRACE_LANES_H

#include "maps.h"

#define WORD(field) (__builtin_offsetof(struct flow, field) / sizeof(u64))

/* The flow as the ``slot``-th of a block. */
static inline void put_in_block(struct block *b, u32 slot, struct flow *f)
{
	u64 *words = (u64 *)f, happened = 0, gone = f->gone_ns, born = f->born_ns;
	u32 i;

#pragma unroll
	for (i = 0; i < FLOW_WORDS; i++) {
		u64 word = words[i];

		if (i == WORD(born_ns))
			word = gone - born;
		if (i >= WORD(connect_ns) && i <= WORD(released_ns) && word) {
			word = i <= WORD(established_ns) ? word - born : gone - word;
			happened |= 1 << (i - WORD(connect_ns));
		}
		b->words[i][slot] = word;
	}
	b->words[FLOW_WORDS][slot] = happened;
}

static inline int put_in_lane(struct config *c, struct flow *f)
{
#if defined(__x86_64__) || defined(CONFIG_X86_64)
	u32 cpu = bpf_get_smp_processor_id(), at, slot, room = c->lane_flows;
	struct lane *lane = map_get(MAP(MAP_LANES), &cpu);
	struct block *to = NULL;

	if (!lane || lane->busy)
		return 0;
	lane->busy = 1;
	barrier(); /* whoever comes in between from here on changes nothing */
	if (lane->written - lane->read < room) {
		slot = lane->written & (room - 1);
		at = cpu * ((room + BLOCK_FLOWS - 1) / BLOCK_FLOWS) + slot / BLOCK_FLOWS;
		to = map_get(MAP(MAP_LANE_FLOWS), &at);
	}
	if (to) {
		put_in_block(to, slot % BLOCK_FLOWS, f);
		barrier();
		lane->written++;
	}
	barrier();
	lane->busy = 0;
	return to != NULL;
#else
	return 0;
#endif
}

#endif
