// SPDX-License-Identifier: GPL-2.0-only
/*
 * The `cgroup` rung: what a socket's owner does, by cgroup socket hooks.  Needs a
 * cgroup v2 mount; works under lockdown=integrity, without kprobes, without BPF
 * trampolines.  All of these run as the owner.
 *
 * accept() has no hook of its own here, but inet_accept() of a caller that asks for
 * the peer's address (HAProxy always does) runs the getpeername hook in the caller.
 * For those who do not ask, the owner shows in the fd table and at release.
 */
#include <linux/types.h>
#include <linux/fs.h>
#include <linux/net.h>
#include <linux/tcp.h>
#include <net/sock.h>

#define GET(p, field) PEEK(p, field)

#include "track.h"

/*
 * The verifier lets no one do arithmetic on these pointers; as plain numbers they
 * serve bpf_probe_read_kernel.  The context of a cgroup_sock program is the struct
 * sock itself; that of a sock_addr program (struct bpf_sock_addr_kern) begins with one.
 */
static inline u64 sk_of(void *ctx)
{
	u64 sk = 0;

	read_kernel(&sk, sizeof(sk), ctx);
	return sk;
}

int bpf_iter__sock_release(struct bpf_sock *ctx)
{
	struct sock *sk = tcp_of((struct sock *)ctx, ctx->protocol);

	if (sk)
		on_release((u64)sk);
	return 1;
}

int bpf_iter__connect4(struct bpf_sock_addr *ctx)
{
	u8 to[16];

	map_v4(to, ctx->user_ip4);
	if (ctx->protocol == IPPROTO_TCP)
		on_connect((u64)ctx->sk, ctx->family, to, __builtin_bswap16(ctx->user_port));
	return 1;
}

int bpf_iter__connect6(struct bpf_sock_addr *ctx)
{
	u32 to[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};

	if (ctx->protocol == IPPROTO_TCP)
		on_connect((u64)ctx->sk, ctx->family, (u8 *)to, __builtin_bswap16(ctx->user_port));
	return 1;
}

/* Both families: inet_accept() asks for the name of the socket it hands out. */
int bpf_iter__getpeername(struct bpf_sock_addr *ctx)
{
	struct sock *sk = tcp_of((struct sock *)sk_of(ctx), ctx->protocol);

	if (sk)
		on_accept((u64)sk);
	return 1;
}
