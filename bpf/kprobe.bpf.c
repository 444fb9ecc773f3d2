// SPDX-License-Identifier: GPL-2.0-only
/*
 * The `kprobe` rung: what a socket's owner does, by kprobes on the kernel's own
 * functions.  For kernels that refuse BPF trampolines.  All of these run as the owner.
 */
#include <linux/types.h>
#include <linux/fs.h>
#include <linux/net.h>
#include <linux/tcp.h>
#include <net/sock.h>

#define GET(p, field) PEEK(p, field)

#include "track.h"
#include "functions.h"
#include "registers.h"

/* net/ipv4/tcp_output.c: int tcp_connect(struct sock *sk); once for each SYN sequence */
int bpf_iter__tcp_connect(u64 *regs)
{
	tcp_connects((struct sock *)regs[FIRST_ARGUMENT]);
	return 0;
}

/*
 * security/security.c: void security_sock_graft(struct sock *sk, struct socket *parent);
 * accept() gives the child its file.  Not a kretprobe on inet_csk_accept: of these there
 * is one instance for each CPU, and every thread that waits in accept() keeps one.
 */
int bpf_iter__security_sock_graft(u64 *regs)
{
	struct sock *sk = (struct sock *)regs[FIRST_ARGUMENT], *tcp = tcp_of(sk, PEEK(sk, sk_protocol));

	if (tcp)
		on_accept((u64)tcp);
	return 0;
}

/* net/ipv4/af_inet.c: int inet_release(struct socket *sock); inet6_release calls it, too */
int bpf_iter__inet_release(u64 *regs)
{
	struct socket *socket = (struct socket *)regs[FIRST_ARGUMENT];
	struct sock *sk = PEEK(socket, sk), *tcp = tcp_of(sk, PEEK(sk, sk_protocol));

	if (tcp)
		on_release((u64)tcp);
	return 0;
}
