/* Made by hatrace from this kernel's BTF: only the fields it reads. */
#pragma once
#include <linux/types.h>
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define S_IFMT 0170000
#define S_IFSOCK 0140000
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_TIME_WAIT = 6,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_LISTEN = 10,
	TCP_CLOSING = 11,
	TCP_NEW_SYN_RECV = 12,
};
struct ns_common { union {
	u8 size_of_it[24];
	struct { u8 pad_inum[16]; u32 inum; } __attribute__((packed, aligned(8)));
}; };
#define HAS_NS_COMMON 1
struct net { union {
	u8 size_of_it[4224];
	struct { u8 pad_ns[128]; struct ns_common ns; } __attribute__((packed, aligned(8)));
}; };
#define HAS_NET 1
struct sock_common { union {
	u8 size_of_it[136];
	struct { u32 skc_daddr; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_rcv_saddr[4]; u32 skc_rcv_saddr; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_dport[12]; u16 skc_dport; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_num[14]; u16 skc_num; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_family[16]; u16 skc_family; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_state[18]; u8 skc_state; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_v6_daddr[56]; u8 skc_v6_daddr[16]; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_v6_rcv_saddr[72]; u8 skc_v6_rcv_saddr[16]; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_net[48]; struct { union {
	struct { struct net *net; } __attribute__((packed, aligned(8)));
}; } skc_net; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_cookie[88]; struct { union {
	struct { u64 counter; } __attribute__((packed, aligned(8)));
}; } skc_cookie; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_flags[96]; u64 skc_flags; } __attribute__((packed, aligned(8)));
	struct { u8 pad_skc_refcnt[128]; struct { union {
	struct { struct { union {
	struct { u32 counter; } __attribute__((packed, aligned(8)));
}; } refs; } __attribute__((packed, aligned(8)));
}; } skc_refcnt; } __attribute__((packed, aligned(8)));
}; };
#define HAS_SOCK_COMMON 1
struct inode { union {
	u8 size_of_it[632];
	struct { u8 pad_i_ino[64]; u64 i_ino; } __attribute__((packed, aligned(8)));
	struct { u16 i_mode; } __attribute__((packed, aligned(8)));
}; };
#define HAS_INODE 1
struct socket { union {
	u8 size_of_it[128];
	struct { u8 pad_sk[24]; struct sock *sk; } __attribute__((packed, aligned(8)));
}; };
#define HAS_SOCKET 1
struct socket_alloc { union {
	u8 size_of_it[768];
	struct { struct socket socket; } __attribute__((packed, aligned(8)));
	struct { u8 pad_vfs_inode[128]; struct inode vfs_inode; } __attribute__((packed, aligned(8)));
}; };
#define HAS_SOCKET_ALLOC 1
struct sock { union {
	u8 size_of_it[776];
	struct { struct sock_common __sk_common; } __attribute__((packed, aligned(8)));
	struct { u8 pad_sk_socket[624]; struct socket *sk_socket; } __attribute__((packed, aligned(8)));
	struct { u8 pad_sk_err[544]; u32 sk_err; } __attribute__((packed, aligned(8)));
	struct { u8 pad_sk_protocol[516]; u16 sk_protocol; } __attribute__((packed, aligned(8)));
	struct { u8 pad_sk_shutdown[610]; u8 sk_shutdown; } __attribute__((packed, aligned(8)));
	struct { u8 pad_sk_ack_backlog[552]; u32 sk_ack_backlog; } __attribute__((packed, aligned(8)));
	struct { u8 pad_sk_max_ack_backlog[556]; u32 sk_max_ack_backlog; } __attribute__((packed, aligned(8)));
}; };
#define HAS_SOCK 1
struct inet_sock { union {
	u8 size_of_it[992];
	struct { u8 pad_inet_sport[804]; u16 inet_sport; } __attribute__((packed, aligned(8)));
}; };
#define HAS_INET_SOCK 1
struct inet_connection_sock { union {
	u8 size_of_it[1400];
	struct { u8 pad_icsk_ack[1248]; struct { union {
	struct { u8 pad_lrcvtime[16]; u32 lrcvtime; } __attribute__((packed, aligned(8)));
}; } icsk_ack; } __attribute__((packed, aligned(8)));
}; };
#define HAS_INET_CONNECTION_SOCK 1
struct tcp_sock { union {
	u8 size_of_it[2240];
	struct { u8 pad_bytes_sent[1448]; u64 bytes_sent; } __attribute__((packed, aligned(8)));
	struct { u8 pad_bytes_retrans[2096]; u64 bytes_retrans; } __attribute__((packed, aligned(8)));
	struct { u8 pad_bytes_received[1408]; u64 bytes_received; } __attribute__((packed, aligned(8)));
	struct { u8 pad_rcv_nxt[1424]; u32 rcv_nxt; } __attribute__((packed, aligned(8)));
	struct { u8 pad_copied_seq[1428]; u32 copied_seq; } __attribute__((packed, aligned(8)));
	struct { u8 pad_write_seq[1812]; u32 write_seq; } __attribute__((packed, aligned(8)));
	struct { u8 pad_snd_una[1468]; u32 snd_una; } __attribute__((packed, aligned(8)));
	struct { u8 pad_lsndtime[1480]; u32 lsndtime; } __attribute__((packed, aligned(8)));
	struct { u8 pad_tcp_mstamp[1624]; u64 tcp_mstamp; } __attribute__((packed, aligned(8)));
}; };
#define HAS_TCP_SOCK 1
struct mptcp_sock { union {
	u8 size_of_it[1912];
	struct { u8 pad_first[1696]; struct sock *first; } __attribute__((packed, aligned(8)));
}; };
#define HAS_MPTCP_SOCK 1
struct file { union {
	u8 size_of_it[232];
	struct { u8 pad_f_inode[32]; struct inode *f_inode; } __attribute__((packed, aligned(8)));
	struct { u8 pad_private_data[200]; void *private_data; } __attribute__((packed, aligned(8)));
}; };
#define HAS_FILE 1
struct task_struct { union {
	u8 size_of_it[4160];
	struct { u8 pad_tgid[1356]; u32 tgid; } __attribute__((packed, aligned(8)));
	struct { u8 pad_pid[1352]; u32 pid; } __attribute__((packed, aligned(8)));
	struct { u8 pad_comm[1912]; u8 comm[16]; } __attribute__((packed, aligned(8)));
}; };
#define HAS_TASK_STRUCT 1
