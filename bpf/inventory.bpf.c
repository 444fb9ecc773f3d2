// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every fd of the processes in scope: reports socket files, and adopts TCP sockets which are
 * older than hatrace.
 *
 * Runs in the reader's context and costs traffic nothing.  The context is that of
 * include/linux/bpf.h (DEFINE_BPF_ITER_FUNC): pointers, 8 bytes each.
 */
#include <linux/types.h>
#include <linux/fs.h>
#include <linux/net.h>
#include <linux/sched.h>
#include <linux/tcp.h>
#include <net/sock.h>

#define GET(p, field) PEEK(p, field)

#include "table.h"

static inline int ephemeral(struct config *c, u16 port)
{
	return port >= c->port_low && port <= c->port_high;
}

static inline void adopt(struct sock *sk, struct task_struct *task, u8 family, struct config *c)
{
	u64 key = (u64)sk;
	struct flow *known = flow_of(key), f = {};
	int inbound;

	if (known) { /* accepted without asking for the address: the fd table tells whose it is */
		if (known->flags & FLOW_ACCEPTED && !is_owned(known)) {
			read_kernel_string(known->comm, sizeof(known->comm), task->comm);
			known->pid = PEEK(task, tgid);
			known->flags |= FLOW_OWNED;
		}
		return;
	}
	f.state = PEEK(sk, __sk_common.skc_state);
	if (!c->hz && f.state != TCP_LISTEN)
		return; /* the first time, listeners only: they tell the others' side */
	f.id = key;
	f.born_ns = now_ns();
	f.family = family;
	f.flags = FLOW_ADOPTED | FLOW_OWNED;
	f.pid = PEEK(task, tgid);
	read_kernel_string(f.comm, sizeof(f.comm), task->comm); /* 5.10 pads none after its end */
	fill_netns(&f, sk);
	f.lport = PEEK(sk, __sk_common.skc_num);
	if (!f.lport) { /* a ghost has given its port back; the copy still stands */
		struct inet_sock *inet = (struct inet_sock *)sk;

		f.lport = __builtin_bswap16(PEEK(inet, inet_sport));
	}
	f.rport = __builtin_bswap16(PEEK(sk, __sk_common.skc_dport));
	f.inode = inode_of(PEEK(sk, sk_socket));
	peek_addresses(&f, sk);
	if (f.state == TCP_LISTEN) {
		f.flags |= FLOW_LISTENER;
		listen_on(f.lport);
	} else if (f.rport) {
		/* Which side it is, nobody can say for certain any more: listeners tell. */
		inbound = listened_on(f.lport) || (ephemeral(c, f.rport) && !ephemeral(c, f.lport));
		f.flags |= inbound ? FLOW_ACCEPTED : FLOW_CONNECTED;
	}
	insert(key, &f);
	if (f.rport && flow_of(key))
		count_adopted(&f);
}

static inline void tell_time(void)
{
	u64 *jiffies = counter(COUNTER_JIFFIES), *ns = counter(COUNTER_NOW_NS);

	if (jiffies && ns) {
		*jiffies = jiffies_now();
		*ns = bpf_ktime_get_ns();
	}
}

int bpf_iter__inventory(u64 *ctx)
{
	struct { void *meta; struct task_struct *task; u64 fd; struct file *file; } *it = (void *)ctx;
	struct task_struct *task = it->task;
	struct file *file = it->file;
	struct config *c = settings();
	struct held h = {};
	struct inode *inode;
	struct socket *socket;
	struct sock *sk, *tcp;
	u32 tgid, protocol;

	if (!task || !file || !c)
		return 0;
	if (!c->hz)
		tell_time();
	tgid = task->tgid;
	if (c->scope != SCOPE_ALL && !map_get(MAP(MAP_TGIDS), &tgid))
		return 0;
	inode = PEEK(file, f_inode);
	socket = PEEK(file, private_data);
	if (!inode || !socket || (PEEK(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	sk = PEEK(socket, sk);
	if (!sk)
		return 0;
	h.pid = tgid;
	h.fd = (u32)it->fd;
	h.inode = PEEK(inode, i_ino);
	h.family = PEEK(sk, __sk_common.skc_family);
	protocol = PEEK(sk, sk_protocol);
	tcp = tcp_of(sk, protocol);
	h.protocol = tcp ? IPPROTO_TCP : protocol;
	h.state = PEEK(sk, __sk_common.skc_state);
	if ((h.family == AF_INET || h.family == AF_INET6) && tcp)
		adopt(tcp, task, h.family, c);
	seq_put(*(void **)it->meta, &h, sizeof(h));
	return 0;
}
