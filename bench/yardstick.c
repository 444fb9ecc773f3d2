/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yardstick: how fast each CPU is, all the time.  A thread on each makes a few pipes now and
 * then and closes them: system calls and kernel memory, as connections are, but no sockets.
 * For each line of input it prints, for CPU 0, 1, ..., the CPU time of one pipe in ns since the
 * line before; 0 for a CPU that is not there, or has not come to it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CPUS 1024
#define WARM 10
#define PIPES 50
#define PAUSE_US 10000

static atomic_long spent_ns[CPUS], made[CPUS];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void pipes(int count)
{
	int ends[2];

	while (count--) {
		if (pipe(ends))
			fail("yardstick: pipe");
		close(ends[0]);
		close(ends[1]);
	}
}

static void *on_one_cpu(void *argument)
{
	long cpu = (long)argument, start;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		return NULL; /* not for us */
	for (;;) {
		usleep(PAUSE_US);
		pipes(WARM);
		start = cpu_ns();
		pipes(PIPES);
		spent_ns[cpu] += cpu_ns() - start;
		made[cpu] += PIPES;
	}
}

int main(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	pthread_t thread;
	char line[64];

	if (cpus > CPUS)
		cpus = CPUS;
	for (long cpu = 0; cpu < cpus; cpu++)
		if (pthread_create(&thread, NULL, on_one_cpu, (void *)cpu))
			fail("yardstick: thread");
	while (fgets(line, sizeof(line), stdin)) {
		for (long cpu = 0; cpu < cpus; cpu++) {
			long count = atomic_exchange(&made[cpu], 0);
			long ns = atomic_exchange(&spent_ns[cpu], 0);

			printf("%.1f ", count ? (double)ns / count : 0.0);
		}
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}
