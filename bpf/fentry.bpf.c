// SPDX-License-Identifier: GPL-2.0-only
/*
 * The `fentry` rung: what a socket's owner does, by BPF trampolines on the kernel's
 * own functions.  Needs BTF and trampolines (refused under some lockdowns and on some
 * machines); costs least.  All of these run as the owner.
 */
#include <linux/types.h>
#include <linux/fs.h>
#include <linux/net.h>
#include <linux/tcp.h>
#include <net/sock.h>

#define GET(p, field) ((p)->field)

#include "track.h"
#include "functions.h"

/* net/ipv4/tcp_output.c: int tcp_connect(struct sock *sk); once for each SYN sequence */
int bpf_iter__tcp_connect(u64 *ctx)
{
	tcp_connects((struct sock *)ctx[0]);
	return 0;
}

/*
 * net/ipv4/inet_connection_sock.c: struct sock *inet_csk_accept(struct sock *sk, ...).
 * The result follows the arguments: 4 of them before kernel 6.10, 2 from then on.
 */
int bpf_iter__inet_csk_accept(u64 *ctx)
{
	u64 child = ctx[ACCEPT_ARGUMENTS];

	if (child)
		on_accept(child);
	return 0;
}

/* net/ipv4/af_inet.c: int inet_release(struct socket *sock); inet6_release calls it, too */
int bpf_iter__inet_release(u64 *ctx)
{
	struct socket *socket = (struct socket *)ctx[0];
	struct sock *sk = socket->sk, *tcp = tcp_of(sk, sk->sk_protocol);

	if (tcp)
		on_release((u64)tcp);
	return 0;
}
