/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim.c: faults below a real HAProxy, for hatrace's lab (LD_PRELOAD).
 *
 * HATRACE_LAB_FAULTS holds rules, separated by ';', each of four words:
 *
 *   connected PORT STATE EVERY  close() of a socket that was connected to PORT is withheld
 *   accepted  PORT STATE EVERY  close() of a socket that was accepted on PORT is withheld
 *   deaf      PATH 0     1      the end of a connection accepted on a UNIX socket whose name
 *                               begins with PATH is never noticed
 *
 * STATE 0: in any state; else only in this TCP state (8 CLOSE_WAIT, 7 CLOSE ...) at close().
 * EVERY n: only one in n.  HATRACE_LAB_FROM: CLOCK_MONOTONIC seconds before which all is well.
 *
 * A withheld socket is taken out of every epoll set, as a forgotten one is, so that HAProxy
 * neither spins nor hears of it again.  Its number stays taken in the kernel, so HAProxy never
 * sees it reused.  Only calls which every glibc since 2.10 has: the same object serves the
 * binaries of all suites.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum kind { CONNECTED = 1, ACCEPTED, DEAF };

struct rule {
	enum kind kind;
	char where[sizeof(((struct sockaddr_un *)0)->sun_path)];
	long port, state, every;
	unsigned long seen;
};

#define RULES 64
#define FDS 65536
#define POLLERS 64

static struct rule rules[RULES];
static int rule_count;
static long from_s;
static unsigned char marked[FDS]; /* index of the rule, plus one, of an open socket */
static int pollers[POLLERS];      /* epoll fds seen, plus one */

/* Decimal; not strtol(), which newer headers bind to newer libraries. */
static long number(const char *text)
{
	long value = 0;

	while (*text >= '0' && *text <= '9')
		value = value * 10 + (*text++ - '0');
	return value;
}

static enum kind kind_of(const char *word)
{
	if (!word)
		return 0;
	return !strcmp(word, "connected") ? CONNECTED
	     : !strcmp(word, "accepted") ? ACCEPTED
	     : !strcmp(word, "deaf") ? DEAF : 0;
}

__attribute__((constructor)) static void read_rules(void)
{
	const char *from = getenv("HATRACE_LAB_FROM"), *text = getenv("HATRACE_LAB_FAULTS");
	char *copy = text ? strdup(text) : NULL, *rest, *line, *at;

	from_s = from ? number(from) : 0;
	for (line = copy ? strtok_r(copy, ";", &at) : NULL; line && rule_count < RULES;
	     line = strtok_r(NULL, ";", &at)) {
		struct rule *rule = &rules[rule_count];
		const char *where, *state, *every;

		rule->kind = kind_of(strtok_r(line, " ", &rest));
		where = strtok_r(NULL, " ", &rest);
		state = strtok_r(NULL, " ", &rest);
		every = strtok_r(NULL, " ", &rest);
		if (!rule->kind || !every)
			continue;
		strncpy(rule->where, where, sizeof(rule->where) - 1);
		rule->port = number(where);
		rule->state = number(state);
		rule->every = number(every) ? number(every) : 1;
		rule_count++;
	}
	free(copy);
}

static long port_of(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)address)->sin_port);
	if (address->sa_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
	return -1;
}

static int applies(const struct rule *rule, int accepted, const struct sockaddr *address)
{
	const char *path = ((const struct sockaddr_un *)address)->sun_path;

	if (rule->kind == DEAF)
		return accepted && address->sa_family == AF_UNIX &&
		       !strncmp(path, rule->where, strlen(rule->where));
	return (rule->kind == ACCEPTED) == accepted && port_of(address) == rule->port;
}

static void mark(int fd, int accepted, const struct sockaddr *address)
{
	int index;

	if (fd < 0 || fd >= FDS)
		return;
	marked[fd] = 0;
	for (index = 0; index < rule_count; index++)
		if (applies(&rules[index], accepted, address))
			marked[fd] = index + 1;
}

static struct rule *rule_of(int fd)
{
	return fd >= 0 && fd < FDS && marked[fd] ? &rules[marked[fd] - 1] : NULL;
}

static int begun(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec >= from_s;
}

static int deaf(int fd)
{
	const struct rule *rule = rule_of(fd);

	return rule && rule->kind == DEAF && begun();
}

static int tcp_state(int fd)
{
	unsigned char info[8] = { 0 };
	socklen_t size = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) ? 0 : info[0];
}

static void forget(int fd)
{
	struct epoll_event none = { 0 };
	int index, saved = errno;

	for (index = 0; index < POLLERS && pollers[index]; index++)
		syscall(SYS_epoll_ctl, pollers[index] - 1, EPOLL_CTL_DEL, fd, &none);
	errno = saved;
}

int connect(int fd, const struct sockaddr *address, socklen_t size)
{
	mark(fd, 0, address);
	return syscall(SYS_connect, fd, address, size);
}

int accept4(int listener, struct sockaddr *address, socklen_t *size, int flags)
{
	struct sockaddr_storage own = { 0 };
	socklen_t own_size = sizeof(own) - 1;
	int fd = syscall(SYS_accept4, listener, address, size, flags);
	int saved = errno;

	if (fd >= 0 && !getsockname(fd, (struct sockaddr *)&own, &own_size))
		mark(fd, 1, (struct sockaddr *)&own);
	errno = saved;
	return fd;
}

int close(int fd)
{
	struct rule *rule = rule_of(fd);

	if (rule) {
		marked[fd] = 0;
		if (rule->kind != DEAF && begun() &&
		    (!rule->state || tcp_state(fd) == rule->state) &&
		    __sync_fetch_and_add(&rule->seen, 1) % rule->every == 0) {
			forget(fd);
			return 0;
		}
	}
	return syscall(SYS_close, fd);
}

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
	ssize_t count = syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);

	if (!count && size && deaf(fd)) {
		forget(fd);
		errno = EAGAIN;
		return -1;
	}
	return count;
}

int epoll_ctl(int poller, int op, int fd, struct epoll_event *event)
{
	int index;

	for (index = 0; index < POLLERS && pollers[index] != poller + 1; index++)
		if (__sync_bool_compare_and_swap(&pollers[index], 0, poller + 1))
			break;
	return syscall(SYS_epoll_ctl, poller, op, fd, event);
}

int epoll_wait(int poller, struct epoll_event *events, int size, int timeout_ms)
{
	int got = syscall(SYS_epoll_pwait, poller, events, size, timeout_ms, NULL, 8);
	int index, kept = 0;

	for (index = 0; index < got; index++) {
		int hung_up = events[index].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR);

		if (hung_up && deaf(events[index].data.fd))
			forget(events[index].data.fd);
		else
			events[kept++] = events[index];
	}
	return got > 0 ? kept : got;
}
