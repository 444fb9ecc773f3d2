/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * helpers.h: the kernel helpers used, by number (enum bpf_func_id, include/uapi/linux/bpf.h),
 * so that no bcc is too old to name one, and maps by the numbers of maps.h.
 *
 * bcc rewrites `map.lookup()` in its main file only; these calls may stand in headers.
 */
#ifndef HATRACE_HELPERS_H
#define HATRACE_HELPERS_H

#define MAP(number) ((void *)bpf_pseudo_fd(1, number)) /* BPF_PSEUDO_MAP_FD */

static void *(*map_get)(void *map, const void *key) = (void *)1;
static int (*map_set)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static int (*map_drop)(void *map, const void *key) = (void *)3;
/* By its own name bcc would take the older helper for it where it may not read kallsyms. */
static long (*read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*read_kernel_string)(void *to, u32 size, const void *from) = (void *)115;
static int (*map_push)(void *map, const void *value, u64 flags) = (void *)87;
static int (*map_pop)(void *map, void *value) = (void *)88;
static u64 (*jiffies_now)(void) = (void *)118;
static int (*seq_put)(void *seq, const void *data, u32 size) = (void *)127;
static int (*ring_put)(void *ring, const void *data, u64 size, u64 flags) = (void *)130;
static struct tcp_sock *(*skc_to_tcp_sock)(void *sk) = (void *)137;

#define ANY 0	    /* BPF_ANY */
#define NEW_ONLY 1  /* BPF_NOEXIST */
#define NO_WAKEUP 1 /* BPF_RB_NO_WAKEUP */

#endif
