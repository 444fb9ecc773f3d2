"""Packets that come by interrupts, as from a network card, and not within a call of their sender.

A tracing program does not run where a CPU is in it already (`__bpf_trace_run()`,
kernel/trace/bpf_trace.c): what an interrupt brings just then, no hook sees.  Loopback hands its
packets to other CPUs by interrupts, too, if it is told to (Documentation/networking/scaling.rst,
RPS): so thousands of births, handshakes and ends are missed within seconds, and all of them are
caught up with.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from bench.compiled import Program, compiled
from hatrace.kernel.probes import Probes
from hatrace.kernel.wire import Criteria
from hatrace.lab import network
from hatrace.model.flow import Flag, Flow
from hatrace.sockets.netlink import namespace_of, within
from tests.kernel.own import attached
from tests.kernel.test_rungs import pytest_generate_tests

__all__ = ["pytest_generate_tests"]
"""On each rung that works here."""

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU interrupts nobody else"),
]

SECONDS = 3
PORTS = (28801, 28802)
STEER = "mount -t sysfs sysfs {at} && echo 3 >{at}/class/net/lo/queues/rx-0/rps_cpus"
"""In a mount namespace of its own, where sysfs shows the network namespace that it is in."""


@contextmanager
def steered(folder: Path) -> Iterator[int]:
    """A process in a network namespace whose loopback hands its packets to two CPUs."""
    with subprocess.Popen(network.HOLD) as holder:
        try:
            while not network.ready(holder):
                time.sleep(0.01)
            network.configure(holder.pid, {})
            command = [*network.inside(holder.pid), "unshare", "--mount", "sh", "-ec"]
            subprocess.run([*command, STEER.format(at=folder)], check=True)
            yield holder.pid
        finally:
            holder.kill()


@pytest.fixture
def loops(opened: ExitStack, tmp_path: Path) -> list[Program]:
    """One on each of two CPUs: connect, accept without asking for the address, close."""
    holder = opened.enter_context(steered(tmp_path))

    def start(port: int) -> Program:
        return opened.enter_context(compiled("loop.c", "hatrace-loop", str(port)))

    made = [within(holder, lambda port=port: start(port)) for port in PORTS]
    assert len({namespace_of(), *(namespace_of(loop.pid) for loop in made)}) == 2
    for cpu, loop in zip(sorted(os.sched_getaffinity(0)), made, strict=False):
        os.sched_setaffinity(loop.pid, {cpu})
    return made


def played(loops: list[Program], probes: Probes) -> tuple[int, list[Flow]]:
    """How many connections there were, and every flow that was told."""
    told: list[Flow] = []
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda loop=loop: counts.append(int(loop.ask(str(SECONDS))[0])))
        for loop in loops
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        told += probes.drain()
        time.sleep(0.02)
    deadline = time.monotonic() + 20
    while len(told) < 2 * sum(counts) and time.monotonic() < deadline:
        probes.scan(Criteria())
        told += probes.drain()
        time.sleep(0.1)
    return sum(counts), told


def test_what_hooks_miss_is_caught_up_with(
    rung: str, opened: ExitStack, loops: list[Program]
) -> None:
    pids = [loop.pid for loop in loops]
    probes = opened.enter_context(closing(attached(*pids, rung=rung)))
    connections, told = played(loops, probes)
    probes.scan(Criteria(everything=True))
    rows, losses = probes.targets(), probes.losses()

    assert losses.ring_full == losses.flows_full == losses.targets_full == 0
    sides = Counter(flow.flags & int(Flag.CONNECTED | Flag.ACCEPTED) for flow in told)
    assert sides == {int(Flag.CONNECTED): connections, int(Flag.ACCEPTED): connections}
    assert max(Counter((flow.id, flow.born_ns) for flow in told).values()) == 1
    assert sum(row.gone for row in rows) == 2 * connections
    assert sum(row.open for row in rows) == 0

    born = [flow for flow in told if not flow.preexisting]
    assert all(flow.established_ns and flow.lport and flow.netns for flow in born)
    assert {flow.netns for flow in told} == {namespace_of(loops[0].pid)}
    assert {flow.pid for flow in told} == {flow.closer for flow in told}
    assert {flow.pid for flow in told} == set(pids)
    assert len(told) - len(born) < connections / 10
