/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop PORT: connect, accept, close on loopback, one connection at a time, both ends in
 * this process.  For each line of input, a number of seconds, it works for so long, and
 * prints how many connections there were and how long that took.
 *
 * The client closes first, so each connection walks through FIN_WAIT, CLOSE_WAIT and
 * LAST_ACK, as most do.  Its TIME_WAIT takes a local port away for a while: the listener
 * is met at some addresses of 127.0.0.0/8, in turn, so that ports do not run out: as many
 * as a proxy has servers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ADDRESSES 16
#define MOST 5000000L

static void fail(const char *what)
{
	fprintf(stderr, "loop: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in address(uint32_t ip, int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(ip),
	};
}

static int listen_on(int port)
{
	struct sockaddr_in any = address(0x7f000000, port);
	int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	any.sin_addr.s_addr = htonl(INADDR_ANY);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 64))
		fail("listen");
	return fd;
}

static void one(int listener, struct sockaddr_in to)
{
	int client = socket(AF_INET, SOCK_STREAM, 0), server;

	if (connect(client, (struct sockaddr *)&to, sizeof(to)))
		fail("connect");
	server = accept(listener, NULL, NULL);
	if (server < 0)
		fail("accept");
	close(client);
	close(server);
}

static void work(int listener, int port, double seconds)
{
	double start = now_s(), end = start;
	long count = 0;

	while (count < MOST && end < start + seconds) {
		one(listener, address(0x7f000100 + count % ADDRESSES + 1, port));
		if (++count % 64 == 0)
			end = now_s();
	}
	printf("%ld %.6f\n", count, now_s() - start);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	double seconds;

	if (argc != 2) {
		fprintf(stderr, "loop PORT\n");
		return 2;
	}
	int port = atoi(argv[1]), listener = listen_on(port);

	while (scanf("%lf", &seconds) == 1)
		work(listener, port, seconds);
	return 0;
}
