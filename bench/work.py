"""The work that is done while a tool looks on: each kind counts what it did."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import processes
from bench.compiled import compiled

LOOP_COMM = "hatrace-loop"
LOOP_PORT = 28800
FRONT_PORT, BACK_PORT = 28810, 28820
SERVERS = 4
WRK_CONNECTIONS = 32


@dataclass(frozen=True)
class Done:
    """``count`` operations in ``seconds``."""

    count: int
    seconds: float
    cpu_s: float | None = None
    """Of the process that was worked on, hooks and all: it shakes less than the time does."""
    cpus: tuple[int, ...] = ()
    """Those which it may run on."""


Run = Callable[[float], Done]
"""Works for about so many seconds."""


@dataclass(frozen=True)
class Work:
    """``ready()`` prepares it, gives what runs it, and cleans up at the end."""

    name: str
    unit: str
    scope: tuple[str, ...]
    """Options that tell hatrace whose sockets these are."""
    ready: Callable[[], AbstractContextManager[Run]]


def done(words: Sequence[str]) -> Done:
    """As loop.c and crowd.c say it: how many, in how many seconds."""
    count, seconds = words
    return Done(int(count), float(seconds))


@contextmanager
def _loop() -> Iterator[Run]:
    """bench/loop.c, on one CPU: which of them is fast changes, and each has its yardstick."""
    with compiled("loop.c", LOOP_COMM, str(LOOP_PORT)) as program:
        os.sched_setaffinity(program.pid, {min(os.sched_getaffinity(0))})
        yield _with_cpu(program.pid, lambda seconds: done(program.ask(str(seconds))))


def _with_cpu(pid: int, run: Run) -> Run:
    def both(seconds: float) -> Done:
        before_s = processes.own_cpu_s(pid)
        did = run(seconds)
        cpu_s = processes.own_cpu_s(pid) - before_s
        return replace(did, cpu_s=cpu_s, cpus=tuple(os.sched_getaffinity(pid)))

    return both


CONFIGURATION = f"""
global
    stats socket {{folder}}/haproxy.sock level admin
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind 127.0.0.1:{FRONT_PORT}
    default_backend servers
backend servers
    option {{option}}
    {{reuse}}
{{servers}}
"""

SERVER = """
    server s{n} 127.0.0.1:{port} check inter 500ms
"""

PEER = """
listen peer{n}
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string ok
"""


def _configuration(folder: str, closing: bool) -> str:
    ports = range(BACK_PORT, BACK_PORT + SERVERS)
    text = CONFIGURATION.format(
        folder=folder,
        option="http-server-close" if closing else "http-keep-alive",
        reuse="http-reuse never" if closing else "http-reuse always",
        servers="".join(SERVER.format(n=n, port=port) for n, port in enumerate(ports)),
    )
    return text + "".join(PEER.format(n=n, port=port) for n, port in enumerate(ports))


def _haproxy(closing: bool) -> Callable[[], AbstractContextManager[Run]]:
    """wrk against a HAProxy with health checks; ``closing``: a connection per request."""

    @contextmanager
    def ready() -> Iterator[Run]:
        with tempfile.TemporaryDirectory(prefix="hatrace-bench-") as folder:
            file = Path(folder, "haproxy.cfg")
            file.write_text(_configuration(folder, closing))
            process = subprocess.Popen(
                ["/usr/sbin/haproxy", "-db", "-q", "-f", file], stdin=subprocess.DEVNULL
            )
            try:
                _wait_for(FRONT_PORT)
                _wrk(1, closing)  # its checks have run, its pools are warm
                yield _with_cpu(process.pid, lambda seconds: _wrk(seconds, closing))
            finally:
                process.terminate()
                process.wait()

    return ready


def _wait_for(port: int) -> None:
    """Until something listens there."""
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"nothing listens on 127.0.0.1:{port}")


def _wrk(seconds: float, closing: bool) -> Done:
    """Requests that were answered; wrk takes whole seconds only."""
    header = ["-H", "Connection: close"] if closing else []
    duration = f"-d{max(1, round(seconds))}s"
    url = f"http://127.0.0.1:{FRONT_PORT}/"
    started = time.monotonic()
    text = _output("wrk", "-t1", f"-c{WRK_CONNECTIONS}", duration, *header, url)
    found = re.search(r"(\d+) requests in", text)
    if not found or int(found[1]) == 0 or "Non-2xx" in text:
        raise RuntimeError(f"wrk was not answered:\n{text}")
    return Done(int(found[1]), time.monotonic() - started)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


WORKS = (
    Work("loop", "connection", ("--comm", LOOP_COMM), _loop),
    Work("close", "request", (), _haproxy(closing=True)),
    Work("keep-alive", "request", (), _haproxy(closing=False)),
)
