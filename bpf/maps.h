/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * maps.h: what the hooks share, and what user space reads of it.  Maps go by number;
 * kernel/maps.py makes them, with these shapes, and puts their fds into the programs.
 */
#ifndef HATRACE_MAPS_H
#define HATRACE_MAPS_H

#include "flow.h"
#include "helpers.h"

#define barrier() asm volatile("" ::: "memory")

enum map {
	MAP_FLOWS = 1,	  /* hash: socket address -> struct flow.  The truth. */
	MAP_RING,	  /* one struct flow for each that ended.  The news. */
	MAP_TARGET_INDEX, /* hash: struct target_key -> u32 index */
	MAP_TARGET_TOTALS, /* per-CPU array: struct target_total; [0]: those without a place */
	MAP_TARGET_OPEN,  /* array of u64 by target, mapped: of those a scan looked at, the open */
	MAP_WATCH_NS,	  /* array by target: report its open flows older than this */
	MAP_CONFIG,	  /* array of one struct config */
	MAP_CRITERIA,	  /* array of one struct criteria */
	MAP_LOSSES,	  /* per-CPU array of one struct losses */
	MAP_COUNTERS,	  /* array of u64: COUNTER_* */
	MAP_TGIDS,	  /* hash: u32 tgid -> struct process.  Who is in scope. */
	MAP_LISTENING,	  /* array of 64 bytes: one for each port somebody in scope listens on */
	MAP_FREE_TARGETS, /* stack of u32: the indexes that no target has */
	MAP_UNIX_PATHS,	  /* hash: struct unix_path -> u32: the command-line sockets */
	MAP_UNIX_CALLS,	  /* LRU hash: struct unix_caller -> struct unix_calls */
	MAP_LOOKS,	  /* hash: socket address -> u8: the flows that are not calm */
	MAP_TARGET_CALM,  /* array of u64 by target, mapped: open flows that are calm */
	MAP_KEYS,	  /* array of u64, mapped: socket addresses for the scan; 0 ends them */
	MAP_REPORT,	  /* array of struct flow, mapped: what the scan has found */
	MAP_LANES,	  /* array of struct lane, by CPU, mapped */
	MAP_LANE_FLOWS,	  /* array of struct block, mapped: the lanes' room, one after the other */
	MAP_LAST,	  /* hash: socket address -> struct flow: those being told late, as they were */
};

enum counter {
	COUNTER_TARGETS, /* made so far */
	COUNTER_MATCHED, /* open flows which met the criteria of this scan */
	COUNTER_JIFFIES, /* and the time of it: how user space learns HZ */
	COUNTER_NOW_NS,
	COUNTER_UNLISTED, /* 1: some flow is neither calm nor in `looks` */
	COUNTERS,
};

/* In two words: where they start is a multiple of 8, which memcpy() of bytes cannot know. */
static inline void copy_16(u8 *to, const u8 *from)
{
	((u64 *)to)[0] = ((u64 *)from)[0];
	((u64 *)to)[1] = ((u64 *)from)[1];
}

static inline u64 *counter(u32 which)
{
	return map_get(MAP(MAP_COUNTERS), &which);
}

#endif
