/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * calm.h: which flows a scan looks at, so that it need not walk them all.
 *
 * A flow is calm once a scan has seen it established, held and of a known target: nothing that
 * anybody asks for.  It leaves the map `looks`, through which scans go, and counts as open where
 * it is; the hook that changes it puts it back.  Each flow is calm, or there.  Most live shorter
 * than a scan takes to come: for them a hook has only to read `calm` in the flow.
 *
 * `calm` is the target it is counted for, 0 for none.  A hook changes the flow first and looks
 * at `calm` then, a scan the other way round; what slips through between two CPUs all the same,
 * the next scan of the whole table puts right, which counts anew.
 */
#ifndef HATRACE_CALM_H
#define HATRACE_CALM_H

#include "maps.h"

#define WOKEN (1 << 15) /* a hook has put it back already */
_Static_assert(TARGETS <= WOKEN, "an index and WOKEN share a field");

static inline void say(u32 which)
{
	u64 *said = counter(which);

	if (said)
		*said = 1;
}

/* The next scan looks at it.  Where there is no room, that is one of the whole table. */
static inline void look_at(u64 sk)
{
	u8 one = 1;

	if (map_set(MAP(MAP_LOOKS), &sk, &one, ANY))
		say(COUNTER_UNLISTED);
}

/* A hook has changed this flow. */
static inline void wake(u64 sk, struct flow *f)
{
	if (!f->calm || f->calm & WOKEN)
		return;
	f->calm |= WOKEN;
	look_at(sk);
}

#endif
