/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd PORT PROCESSES CONNECTIONS: so many processes, each with so many connections to
 * itself, both ends open.  When all are there it prints their number; then, for each line
 * of input:
 *
 *	churn RATE SECONDS	close and replace so many connections a second, altogether
 *	next COUNT		close and replace so many that were not yet, the same few processes
 *	storm COUNT		make and close so many, as fast as it goes
 *	half COUNT		shut the sending half of so many clients
 *	reset			abort all clients at once, and keep the dead accepted ends
 *
 * and prints how many connections that were, and how long it took.
 *
 * Each process listens on an address of its own in 127.1.0.0/16, so that local ports are
 * no limit; the number of files for each process is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FEW 2

struct pair {
	int client, accepted;
};

struct order {
	char what;
	double amount, seconds;
};

static struct sockaddr_in here;
static struct pair *pairs;
static int listener, count;

static void fail(const char *what)
{
	fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void sleep_s(double seconds)
{
	struct timespec t = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};

	if (seconds > 0)
		nanosleep(&t, NULL);
}

static void listen_at(int number, int port)
{
	struct rlimit files;
	int yes = 1;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	here.sin_family = AF_INET;
	here.sin_port = htons(port);
	here.sin_addr.s_addr = htonl(0x7f010001 + number / 200 * 256 + number % 200);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, (struct sockaddr *)&here, sizeof(here)) || listen(listener, 64))
		fail("listen");
}

static struct pair connected(void)
{
	struct pair p;

	p.client = socket(AF_INET, SOCK_STREAM, 0);
	if (p.client < 0 || connect(p.client, (struct sockaddr *)&here, sizeof(here)))
		fail("connect");
	p.accepted = accept(listener, NULL, NULL);
	if (p.accepted < 0)
		fail("accept");
	return p;
}

static void ended(struct pair p)
{
	close(p.client);
	close(p.accepted);
}

static void replace(struct pair *p)
{
	ended(*p);
	*p = connected();
}

static long churn(double rate, double seconds)
{
	double start = now_s(), now = start;
	long done = 0;

	while (now < start + seconds) {
		if (done < rate * (now - start)) {
			replace(&pairs[done++ % count]);
		} else {
			sleep_s(0.01);
		}
		now = now_s();
	}
	return done;
}

static long next(double amount)
{
	static long at;
	long done = 0;

	for (; done < amount; done++)
		replace(&pairs[at++ % count]);
	return done;
}

static long storm(double amount)
{
	long done = 0;

	for (; done < amount; done++)
		ended(connected());
	return done;
}

static long half(double amount)
{
	long done = 0;

	for (; done < amount && done < count; done++)
		shutdown(pairs[done].client, SHUT_WR);
	return done;
}

static long reset(void)
{
	struct linger abort = {1, 0};

	for (int i = 0; i < count; i++) {
		setsockopt(pairs[i].client, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
		close(pairs[i].client);
	}
	return count;
}

static long obeyed(struct order order)
{
	switch (order.what) {
	case 'c':
		return churn(order.amount, order.seconds);
	case 'n':
		return next(order.amount);
	case 's':
		return storm(order.amount);
	case 'h':
		return half(order.amount);
	default:
		return reset();
	}
}

static void member(int number, int port, int orders, int answers)
{
	struct order order;
	long done = count;

	listen_at(number, port);
	pairs = calloc(count + 1, sizeof(*pairs));
	for (int i = 0; i < count; i++)
		pairs[i] = connected();
	if (write(answers, &done, sizeof(done)) != sizeof(done))
		fail("answer");
	while (read(orders, &order, sizeof(order)) == sizeof(order)) {
		done = obeyed(order);
		if (write(answers, &done, sizeof(done)) != sizeof(done))
			fail("answer");
	}
	exit(0);
}

static long all_answers(int answers, int members)
{
	long sum = 0, one;

	for (int i = 0; i < members; i++) {
		if (read(answers, &one, sizeof(one)) != sizeof(one))
			fail("a process has ended");
		sum += one;
	}
	return sum;
}

static void tell(int answers, int members, double start)
{
	long sum = all_answers(answers, members);

	printf("%ld %.6f\n", sum, now_s() - start);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int answers[2], members = argc == 4 ? atoi(argv[2]) : 0, *orders;
	double start = now_s();
	char line[80], word[16];

	if (members < 1) {
		fprintf(stderr, "crowd PORT PROCESSES CONNECTIONS\n");
		return 2;
	}
	count = atoi(argv[3]);
	orders = calloc(members, sizeof(*orders));
	if (pipe(answers))
		fail("pipe");
	for (int i = 0; i < members; i++) {
		int both[2];

		if (pipe(both))
			fail("pipe");
		if (fork() == 0) {
			for (int other = 0; other < i; other++)
				close(orders[other]);
			close(both[1]);
			close(answers[0]);
			member(i, atoi(argv[1]), both[0], answers[1]);
		}
		close(both[0]);
		orders[i] = both[1];
	}
	close(answers[1]);
	tell(answers[0], members, start);
	while (fgets(line, sizeof(line), stdin)) {
		struct order order = {0};
		int asked;

		if (sscanf(line, "%15s %lf %lf", word, &order.amount, &order.seconds) < 1)
			continue;
		order.what = word[0];
		asked = order.what == 'n' && members > FEW ? FEW : members;
		order.amount /= asked;
		start = now_s();
		for (int i = 0; i < asked; i++)
			if (write(orders[i], &order, sizeof(order)) != sizeof(order))
				fail("order");
		tell(answers[0], asked, start);
	}
	for (int i = 0; i < members; i++)
		close(orders[i]);
	while (wait(NULL) > 0) /* until their ports are free */
		;
	return 0;
}
