"""Whose sockets are seen: each scope option with processes that are not HAProxy, and their ends.

Every process here makes the same known connections, so that what is missing, doubled or
somebody else's shows in the capture.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hatrace.commands._tracing import Tracing
from hatrace.lab.stage import wait_until
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.event import Finished
from tests.kernel.cgroups import new_cgroup, removed
from tests.kernel.running import Hatrace, run

WORDS = b"ping"

WORKER = """
import os, socket, sys, time
family, host, port, comm = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
if comm:
    open("/proc/self/comm", "w").write(comm)
print("ready", flush=True)
for line in sys.stdin:
    if line == "fork\\n" and os.fork() == 0:
        line = "connect\\n"
    if line == "connect\\n":
        with socket.socket(family) as link:
            link.connect((host, port))
            link.sendall(b"ping")
            link.recv(100)
            print(os.getpid(), *link.getsockname()[:2], flush=True)
"""
"""Connects when it is told to, says its pid and local address, and ends with its stdin."""


class Worker:
    """A process that connects when it is told to."""

    def __init__(self, server: socket.socket, host: str, comm: str = "") -> None:
        family, port = (2 if "." in host and ":" not in host else 10), server.getsockname()[1]
        self.server = server
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(family), host, str(port), comm],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid

    def does(self, word: str) -> tuple[int, int]:
        """One connection from its begin to its end; the pid that made it and its port."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        link, _ = self.server.accept()
        with link:
            assert link.recv(100) == WORDS
            link.sendall(b"answer")
            assert link.recv(100) == b""
        pid, _, port = self.process.stdout.readline().split()
        return int(pid), int(port)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listens on IPv4 and IPv6 at once."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        listener.settimeout(20)
        yield listener


@pytest.fixture
def worker(server: socket.socket) -> Iterator[Worker]:
    one = Worker(server, "127.0.0.1")
    yield one
    one.end()


@pytest.fixture
def stranger(server: socket.socket) -> Iterator[Worker]:
    """A process out of scope that does the same."""
    one = Worker(server, "127.0.0.1")
    yield one
    one.end()


def flows(capture: Path) -> list[dict[str, Any]]:
    """The finished outbound flows of a capture."""
    rows = [json.loads(line) for line in run("export", str(capture)).out.splitlines()]
    return [row for row in rows if row["seen"] == "ended" and "connected" in row["flags"]]


def traced(words: list[str], capture: Path, *doers: tuple[Worker, str]) -> list[tuple[int, int]]:
    """Record while workers connect; the (pid, port) of what they did."""
    with Hatrace("record", *words, "--json", "-o", str(capture)) as hatrace:
        hatrace.started()
        did = [worker.does(word) for worker, word in doers]
        ended = hatrace.end(signal.SIGTERM)
    assert ended.errors == ""
    return did


def seen(capture: Path) -> list[tuple[int, int]]:
    """(pid, local port) of each finished outbound flow."""
    return [(row["pid"], int(row["laddr"].rpartition(":")[2])) for row in flows(capture)]


def test_pid_and_its_forks_and_nobody_else(
    worker: Worker, stranger: Worker, tmp_path: Path
) -> None:
    capture = tmp_path / "x.hatrace"
    one, other, forked = traced(
        ["--pid", str(worker.pid)], capture,
        (worker, "connect"), (stranger, "connect"), (worker, "fork"),
    )  # fmt: skip
    assert one[0] == worker.pid
    assert forked[0] != worker.pid
    assert sorted(seen(capture)) == sorted([one, forked])
    assert other not in seen(capture)


def test_comm_and_nobody_else(server: socket.socket, stranger: Worker, tmp_path: Path) -> None:
    named = Worker(server, "127.0.0.1", comm="hat-test-worker")
    try:
        capture = tmp_path / "x.hatrace"
        words = ["--comm", "hat-test-worker"]
        one, _ = traced(words, capture, (named, "connect"), (stranger, "connect"))
        assert seen(capture) == [one]
        assert flows(capture)[0]["comm"] == "hat-test-worker"
    finally:
        named.end()


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup v2 of our own, removed afterwards."""
    with new_cgroup("test", "inner") as folder:
        yield folder


def test_cgroup_those_below_it_and_nobody_else(
    cgroup: Path, worker: Worker, server: socket.socket, stranger: Worker, tmp_path: Path
) -> None:
    below = Worker(server, "127.0.0.1")
    try:
        (cgroup / "cgroup.procs").write_text(str(worker.pid))
        (cgroup / "inner/cgroup.procs").write_text(str(below.pid))
        capture = tmp_path / "x.hatrace"
        doers = [(worker, "connect"), (below, "connect"), (stranger, "connect")]
        did = traced(["--cgroup", f"/{cgroup.name}"], capture, *doers)
        assert sorted(seen(capture)) == sorted(did[:2])
    finally:
        below.end()
        worker.end()


def test_a_cgroup_that_is_made_anew(cgroup: Path, worker: Worker, opened: ExitStack) -> None:
    """As systemd does at each restart of a service: the same name, another cgroup."""
    scope = Scope(ScopeKind.CGROUP, (str(cgroup),))
    tracing = opened.enter_context(Tracing(scope, None, "full", bpf_stats=False))
    before = cgroup.stat().st_ino
    for folder in (cgroup / "inner", cgroup):
        assert wait_until(partial(removed, folder))
    (cgroup / "inner").mkdir(parents=True)
    assert cgroup.stat().st_ino != before
    list(tracing.events(lambda: False))
    (cgroup / "cgroup.procs").write_text(str(worker.pid))
    did, ended = worker.does("connect"), []

    def has_ended() -> bool:
        news = [event for event in tracing.events(lambda: False) if isinstance(event, Finished)]
        ended.extend(flow for event in news for flow in event.flows)
        return bool(ended)

    assert wait_until(has_ended)
    worker.end()
    assert [(flow.pid, flow.lport) for flow in ended] == [did]


def test_all_sees_everybody_once(worker: Worker, stranger: Worker, tmp_path: Path) -> None:
    capture = tmp_path / "x.hatrace"
    did = traced(["--all"], capture, (worker, "connect"), (stranger, "connect"))
    found = seen(capture)
    assert [found.count(each) for each in did] == [1, 1]


@pytest.mark.parametrize(
    ("host", "peer"), [("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:"), ("::ffff:127.0.0.1", "127")]
)
def test_every_family(host: str, peer: str, server: socket.socket, tmp_path: Path) -> None:
    """A v4-mapped socket prints, and compares, as the IPv4 that it speaks."""
    one = Worker(server, host)
    try:
        capture = tmp_path / "x.hatrace"
        did = traced(["--pid", str(one.pid)], capture, (one, "connect"))
        assert seen(capture) == did
        [flow] = flows(capture)
        assert flow["raddr"].startswith(peer)
        assert (flow["sent_bytes"], flow["received_bytes"]) == (4, 6)
    finally:
        one.end()


def test_the_accepting_side_belongs_to_the_server(tmp_path: Path) -> None:
    """A backend application's own side: accepted, with its pid, bytes and both ends."""
    program = (
        "import socket\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "print(listener.getsockname()[1], flush=True)\n"
        "while True:\n"
        "    link, _ = listener.accept()\n"
        "    link.sendall(link.recv(100) * 2)\n"
        "    link.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        capture = tmp_path / "x.hatrace"
        with Hatrace("record", "--pid", str(server.pid), "-o", str(capture), "--json") as hatrace:
            hatrace.started()
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port)) as link:
                    link.sendall(b"abc")
                    assert link.recv(100) == b"abcabc"
                    assert link.recv(100) == b""
            hatrace.end(signal.SIGTERM)
        server.kill()
    rows = [json.loads(line) for line in run("export", str(capture)).out.splitlines()]
    accepted = [row for row in rows if "accepted" in row["flags"]]
    assert len(accepted) == 3
    assert {(row["pid"], row["closer"]) for row in accepted} == {(server.pid, server.pid)}
    assert {(row["sent_bytes"], row["received_bytes"]) for row in accepted} == {(6, 3)}
