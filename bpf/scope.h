/* SPDX-License-Identifier: GPL-2.0-only */
/* scope.h: which processes are traced, decided before anything else is done. */
#ifndef HATRACE_SCOPE_H
#define HATRACE_SCOPE_H

#include "maps.h"

static inline struct config *settings(void)
{
	u32 zero = 0;

	return map_get(MAP(MAP_CONFIG), &zero);
}

static inline u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

/* Whether the running process is traced. */
static inline int in_scope(struct config *c, u32 tgid)
{
	if (c->scope == SCOPE_ALL)
		return 1;
	if (c->scope == SCOPE_CGROUP)
		return bpf_get_current_ancestor_cgroup_id(c->cgroup_level) == c->cgroup_id;
	return map_get(MAP(MAP_TGIDS), &tgid) != NULL;
}

/* A port on which somebody in scope listens: its children are worth a look. */
static inline void listen_on(u16 port)
{
	u32 word = port >> 6;
	u64 *bits = map_get(MAP(MAP_LISTENING), &word);

	if (bits)
		__sync_fetch_and_or(bits, 1ULL << (port & 63));
}

static inline int listened_on(u16 port)
{
	u32 word = port >> 6;
	u64 *bits = map_get(MAP(MAP_LISTENING), &word);

	return bits && *bits >> (port & 63) & 1;
}

#endif
