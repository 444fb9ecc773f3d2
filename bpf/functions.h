/* SPDX-License-Identifier: GPL-2.0-only */
/* functions.h: hooks on the kernel's own functions, where addresses are in the socket. */
#ifndef HATRACE_FUNCTIONS_H
#define HATRACE_FUNCTIONS_H

#include "track.h"

/*
 * tcp_connect: the socket is bound and has its remote address.  Sockets are not seen at
 * socket() here: one that never connects is found by the inventory, not by a hook.
 */
static inline void tcp_connects(struct sock *sk)
{
	struct config *c = settings();
	u64 key = (u64)sk;
	struct flow f = {};
	u32 tgid = current_tgid();

	if (!c || !own(c, &f, tgid))
		return;
	f.id = key;
	f.born_ns = f.connect_ns = now_ns();
	f.family = GET(sk, __sk_common.skc_family);
	f.state = TCP_SYN_SENT;
	f.flags |= FLOW_CONNECTED;
	fill_local(&f, sk);
	fill_remote(&f, sk);
	fill_netns(&f, sk);
	insert(key, &f);
}

#endif
