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

/* The running thread's name: of processes that are in no map, and a call that is not cheap. */
static inline int name_now(u8 *comm)
{
	bpf_get_current_comm(comm, sizeof(((struct process *)0)->comm));
	return 1;
}

/*
 * Whether the running process is traced, and its name.  Where tracing programs cannot ask for a
 * cgroup (before kernel 5.15, the loader tries it), user space keeps the cgroup's tgids in the map.
 */
static inline int in_scope(struct config *c, u32 tgid, u8 *comm)
{
	struct process *known;

	if (c->scope == SCOPE_ALL)
		return name_now(comm);
#ifdef ANCESTOR_CGROUP
	if (c->scope == SCOPE_CGROUP)
		return bpf_get_current_ancestor_cgroup_id(c->cgroup_level) == c->cgroup_id &&
		       name_now(comm);
#endif
	known = map_get(MAP(MAP_TGIDS), &tgid);
	if (!known)
		return 0;
	if (!known->comm[0]) /* user space could not read it */
		return name_now(comm);
	copy_16(comm, known->comm);
	return 1;
}

/*
 * A port on which somebody in scope listens: its children are worth a look.  A byte for
 * each port, not a bit: an atomic "or" is new in kernel 5.12.
 */
static inline void listen_on(u16 port)
{
	u32 block = port >> 6;
	u8 *ports = map_get(MAP(MAP_LISTENING), &block);

	if (ports)
		ports[port & 63] = 1;
}

static inline int listened_on(u16 port)
{
	u32 block = port >> 6;
	u8 *ports = map_get(MAP(MAP_LISTENING), &block);

	return ports && ports[port & 63];
}

#endif
