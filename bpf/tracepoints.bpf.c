// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel does to a socket, and the forks and execs of the processes in
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
	u8 one = 1;

	if (from != to && map_get(MAP(MAP_TGIDS), &from))
		map_set(MAP(MAP_TGIDS), &to, &one, ANY);
	return 0;
}

/* include/trace/events/sched.h: (task, old_pid, bprm); comm is the new one already */
int bpf_iter__sched_process_exec(u64 *ctx)
{
	struct config *c = settings();
	u32 tgid = current_tgid();
	u64 name[2] = {}, *wanted;
	u8 one = 1;

	if (!c)
		return 0;
	wanted = (u64 *)c->comm;
	if (!wanted[0])
		return 0;
	bpf_get_current_comm(name, sizeof(name));
	if (name[0] == wanted[0] && name[1] == wanted[1])
		map_set(MAP(MAP_TGIDS), &tgid, &one, ANY);
	return 0;
}
