// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who connects to HAProxy's command-line sockets, how often and when: counted per
 * process and socket.  A command takes milliseconds, so looking once a second
 * (unix_diag) sees hardly any; this sees each.  Nothing else of AF_UNIX is traced.
 */
#include <linux/types.h>
#include <linux/fs.h>
#include <linux/net.h>
#include <linux/tcp.h>
#include <net/sock.h>

#define GET(p, field) PEEK(p, field)

#include "track.h"
#include "registers.h"

#define FAMILY_BYTES 2 /* struct sockaddr_un: sun_family, then sun_path */

/* connect() to a path.  Runs as the caller; ``address`` is the kernel's copy. */
static inline void on_unix_connect(const void *address, u32 length)
{
	struct unix_path path = {};
	struct unix_caller caller = {};
	struct unix_calls fresh = {}, *calls;
	u64 room;
	u32 *index;

	/* To the first NUL, and no further than was given: what follows is no path. */
	room = length > FAMILY_BYTES ? length - FAMILY_BYTES + 1 : 1;
	if (room > sizeof(path.name))
		room = sizeof(path.name);
	asm volatile("" : "+r"(room)); /* or clang lets the verifier lose the bound */
	if (room > sizeof(path.name))
		return;
	read_kernel_string(path.name, room, address + FAMILY_BYTES);
	index = map_get(MAP(MAP_UNIX_PATHS), &path);
	if (!index)
		return;
	caller.pid = current_tgid();
	caller.path = *index;
	calls = map_get(MAP(MAP_UNIX_CALLS), &caller);
	if (!calls) {
		bpf_get_current_comm(fresh.comm, sizeof(fresh.comm));
		map_set(MAP(MAP_UNIX_CALLS), &caller, &fresh, NEW_ONLY);
		calls = map_get(MAP(MAP_UNIX_CALLS), &caller);
	}
	if (calls) {
		calls->last_ns = bpf_ktime_get_ns();
		__sync_fetch_and_add(&calls->connects, 1);
	}
}

/* cgroup/connect_unix (kernel 6.7): struct bpf_sock_addr_kern begins with sk and uaddr. */
int bpf_iter__connect_unix(struct bpf_sock_addr *ctx)
{
	struct { u64 sk; const void *uaddr; u64 unused[2]; u32 length; } seen = {};

	read_kernel(&seen, sizeof(seen), ctx);
	on_unix_connect(seen.uaddr, seen.length);
	return 1;
}

/* net/unix/af_unix.c: int unix_stream_connect(struct socket *, struct sockaddr *, int, int) */
int bpf_iter__unix_stream_connect(u64 *ctx)
{
	on_unix_connect((void *)ctx[1], ctx[2]);
	return 0;
}

int bpf_iter__kprobe_unix_connect(u64 *regs)
{
	on_unix_connect((void *)regs[SECOND_ARGUMENT], regs[THIRD_ARGUMENT]);
	return 0;
}
