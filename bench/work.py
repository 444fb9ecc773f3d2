"""The work that is done while a tool looks on: each kind counts what it did."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import processes

HERE = Path(__file__).parent
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


@contextmanager
def _loop() -> Iterator[Run]:
    """bench/loop.c, compiled here and now."""
    with tempfile.TemporaryDirectory(prefix="hatrace-bench-") as folder:
        program = Path(folder, LOOP_COMM)
        subprocess.run(["cc", "-O2", "-Wall", "-o", program, HERE / "loop.c"], check=True)

        process = subprocess.Popen(
            [program, str(LOOP_PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with process:  # its end of input is its end
            assert process.stdin and process.stdout
            asks, answers = process.stdin, process.stdout

            def run(seconds: float) -> Done:
                print(seconds, file=asks, flush=True)
                count, took = answers.readline().split()
                return Done(int(count), float(took))

            yield _with_cpu(process.pid, run)


def _with_cpu(pid: int, run: Run) -> Run:
    def both(seconds: float) -> Done:
        before_s = processes.own_cpu_s(pid)
        done = run(seconds)
        return replace(done, cpu_s=processes.own_cpu_s(pid) - before_s)

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
