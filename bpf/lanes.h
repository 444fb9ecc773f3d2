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

static inline int put_in_lane(struct config *c, struct flow *f)
{
#if defined(__x86_64__) || defined(CONFIG_X86_64)
	u32 cpu = bpf_get_smp_processor_id(), at, room = c->lane_flows;
	struct lane *lane = map_get(MAP(MAP_LANES), &cpu);
	struct flow *to = NULL;

	if (!lane || lane->busy)
		return 0;
	lane->busy = 1;
	barrier(); /* whoever comes in between from here on changes nothing */
	if (lane->written - lane->read < room) {
		at = cpu * room + (lane->written & (room - 1));
		to = map_get(MAP(MAP_LANE_FLOWS), &at);
	}
	if (to) {
		__builtin_memcpy(to, f, sizeof(*f));
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
