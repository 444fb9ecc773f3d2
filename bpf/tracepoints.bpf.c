// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel does to a socket, and the forks and names of the processes in
 * scope: BTF tracepoints, the same on every rung.
 *
 * They run as whoever happens to be on the CPU: never take an owner from here.
 */
#include <linux/types.h>
#include <linux/fs.h>
#include <linux/net.h>
#include <linux/sched.h>
#include <linux/tcp.h>
#include <net/sock.h>

#define GET(p, field) ((p)->field) /* the verifier knows the type: a plain load */

#include "track.h"

/* include/trace/events/sock.h: (sk, oldstate, newstate) */
int bpf_iter__inet_sock_set_state(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];

	if (sk->sk_protocol == IPPROTO_TCP) /* MPTCP's and SCTP's sockets are told, too */
		on_state(sk, ctx[1], ctx[2]);
	return 0;
}

/* include/trace/events/tcp.h: (sk) */
int bpf_iter__tcp_destroy_sock(u64 *ctx)
{
	on_destroy((struct sock *)ctx[0]);
	return 0;
}

/* include/trace/events/tcp.h: (sk) */
int bpf_iter__tcp_receive_reset(u64 *ctx)
{
	on_reset(ctx[0]);
	return 0;
}

/* include/trace/events/sched.h: (parent, child) */
int bpf_iter__sched_process_fork(u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	u32 from = parent->tgid, to = child->tgid;
	struct process named = {};

	if (from == to || !map_get(MAP(MAP_TGIDS), &from))
		return 0;
	read_kernel_string(named.comm, sizeof(named.comm), child->comm);
	map_set(MAP(MAP_TGIDS), &to, &named, ANY);
	return 0;
}

/* include/trace/events/task.h: (task, comm), before it has that name: at exec(), and at wish. */
int bpf_iter__task_rename(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	u32 tgid = task->tgid, pid = task->pid;
	struct config *c = settings();
	struct process named = {};
	u64 *name = (u64 *)named.comm, *wanted;

	if (!c || pid != tgid)
		return 0;
	read_kernel_string(named.comm, sizeof(named.comm), (void *)ctx[1]);
	wanted = (u64 *)c->comm;
	if ((wanted[0] && name[0] == wanted[0] && name[1] == wanted[1]) ||
	    map_get(MAP(MAP_TGIDS), &tgid))
		map_set(MAP(MAP_TGIDS), &tgid, &named, ANY);
	return 0;
}
