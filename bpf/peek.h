/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * peek.h: what is read of a live socket, into its flow.
 *
 * GET(pointer, field) is defined before this is included: a plain load where the
 * verifier knows the type (tp_btf, fentry), PEEK = bpf_probe_read_kernel elsewhere.
 */
#ifndef HATRACE_PEEK_H
#define HATRACE_PEEK_H

#include "maps.h"

#define SOCK_DONE 1 /* enum sock_flags, include/net/sock.h: the peer's FIN was received */

#define PEEK(p, field) ({ \
	typeof((p)->field) v_ = 0; \
	read_kernel(&v_, sizeof(v_), &(p)->field); \
	v_; })

#define IPPROTO_MPTCP 262

/*
 * The TCP socket behind a file's: itself; of MPTCP its first subflow (net/mptcp/protocol.h), which
 * has the state, the queue and the bytes; NULL for other protocols.
 */
static inline struct sock *tcp_of(struct sock *sk, u32 protocol)
{
	if (protocol == IPPROTO_TCP)
		return sk;
#ifdef HAS_MPTCP_SOCK
	if (protocol == IPPROTO_MPTCP) {
		struct mptcp_sock *both = (void *)sk;

		return (void *)PEEK(both, first);
	}
#endif
	return NULL;
}

struct address {
	u64 words[2];
};

static inline void map_v4(u8 *to, u32 address)
{
	__builtin_memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, &address, 4);
}

/*
 * Times of flows are whole multiples of 1,024 ns: finer they differ by noise, which costs a
 * capture a third of its size.
 */
static inline u64 whole(u64 ns)
{
	return ns & ~1023ULL;
}

static inline u64 now_ns(void)
{
	return whole(bpf_ktime_get_ns());
}

static inline u64 latest(u64 one, u64 other)
{
	return one > other ? one : other;
}

/* The time of the latest segment, as the kernel took it. */
static inline u64 segment_ns(struct tcp_sock *tp)
{
	return tp ? whole(GET(tp, tcp_mstamp) * 1000) : 0;
}

static inline void fill_local(struct flow *f, struct sock *sk)
{
	u16 port = GET(sk, __sk_common.skc_num);

	if (port)
		f->lport = port;
	if (f->family == AF_INET) {
		map_v4(f->laddr, GET(sk, __sk_common.skc_rcv_saddr));
	} else {
		struct address *from = (void *)&sk->__sk_common.skc_v6_rcv_saddr;
		u64 *to = (u64 *)f->laddr;

		to[0] = GET(from, words[0]);
		to[1] = GET(from, words[1]);
	}
}

static inline void fill_remote(struct flow *f, struct sock *sk)
{
	f->rport = __builtin_bswap16(GET(sk, __sk_common.skc_dport));
	if (f->family == AF_INET) {
		map_v4(f->raddr, GET(sk, __sk_common.skc_daddr));
	} else {
		struct address *from = (void *)&sk->__sk_common.skc_v6_daddr;
		u64 *to = (u64 *)f->raddr;

		to[0] = GET(from, words[0]);
		to[1] = GET(from, words[1]);
	}
}

static inline void peek_local(struct flow *f, struct sock *sk)
{
	if (f->family == AF_INET)
		map_v4(f->laddr, PEEK(sk, __sk_common.skc_rcv_saddr));
	else
		read_kernel(f->laddr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
}

static inline void peek_addresses(struct flow *f, struct sock *sk)
{
	peek_local(f, sk);
	if (f->family == AF_INET)
		map_v4(f->raddr, PEEK(sk, __sk_common.skc_daddr));
	else
		read_kernel(f->raddr, 16, &sk->__sk_common.skc_v6_daddr);
}

static inline void fill_netns(struct flow *f, struct sock *sk)
{
	struct net *net = GET(sk, __sk_common.skc_net.net);

	f->netns = GET(net, ns.inum);
}

static inline u32 inode_of(struct socket *socket)
{
	struct socket_alloc *both = (struct socket_alloc *)socket;

	return socket ? PEEK(both, vfs_inode.i_ino) : 0;
}

/*
 * The payload so far.  tcp_disconnect() clears it, so it is read before and not again.
 * The kernel counts the peer's FIN as a byte received; SOCK_DONE says that it came.
 */
static inline void fill_bytes(struct flow *f, struct tcp_sock *tp)
{
	u64 fin = GET((struct sock *)tp, __sk_common.skc_flags) >> SOCK_DONE & 1;

	f->sent_bytes = GET(tp, bytes_sent) - GET(tp, bytes_retrans);
	f->received_bytes = GET(tp, bytes_received) - fin;
	if (fin)
		f->flags |= FLOW_FIN_RECEIVED;
}

#endif
