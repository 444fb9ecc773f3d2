"""Stage: where one lab plays.  A directory, free ports, and processes that never outlive it."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hatrace.errors import EnvironmentLacks
from hatrace.lab import guard, network

PORTS = range(27000, 28000)
"""Where the lab's listeners are: below the ephemeral range, so that no client's port collides."""


class Stage:
    """A context: what is started on it is ended with it, whatever happens.

    Its processes are found again by a token in their environment, so a HAProxy which forks
    and executes itself anew, or a stopped one, is ended as well (`guard`).
    """

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self.directory = Path(tempfile.mkdtemp(prefix="hatrace-lab."))
        self._children: list[subprocess.Popen[bytes]] = []
        self._inside: tuple[str, ...] = ()
        self._ports = iter(random.sample(PORTS, len(PORTS)))
        self._claimed: list[socket.socket] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "hatrace.lab.guard", self.token, str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=_environment(),
        )
        assert self._guard.stdout is not None
        self._guard.stdout.readline()
        self._guard.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all that was started here; the guard does it, so there is one way only."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        for child in self._children:
            child.wait()
        self._guard.wait()
        guard.end(self.token)
        for claim in self._claimed:
            claim.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def port(self) -> int:
        """A TCP port that is free now, never the same twice, nor that of a lab beside this one."""
        for port in self._ports:
            if not self._claims(port):
                continue
            with socket.socket(socket.AF_INET6) as probe:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("::", port))
                except OSError:
                    continue
                return port
        raise EnvironmentLacks(f"no free port in {PORTS.start}-{PORTS.stop - 1}")

    def _claims(self, port: int) -> bool:
        """Whether no other lab has it; an abstract name is free again when its owner is gone."""
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0hatrace-lab-port-{port}")
        except OSError:
            claim.close()
            return False
        self._claimed.append(claim)
        return True

    def enter_network(self, settings: Mapping[str, str]) -> None:
        """All that is started from now on lives in a network namespace of its own.

        ``settings``: sysctls which are of one namespace (``net/ipv4/...``).
        """
        holder = self.spawn(network.HOLD, "network.log")
        if not wait_until(lambda: network.ready(holder)):
            raise EnvironmentLacks("the lab gets no network namespace of its own", "not in time")
        network.configure(holder.pid, settings)
        self._inside = network.inside(holder.pid)

    def spawn(
        self,
        words: Sequence[str | Path],
        log: str,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program in its own session; what it prints goes to the file ``log``."""
        marked = {guard.VARIABLE: self.token} | dict(environment or {})
        with (self.directory / log).open("ab") as output:
            try:
                child = subprocess.Popen(
                    (*self._inside, *words),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd=self.directory,
                    env=_environment() | marked,
                )
            except OSError as error:
                raise EnvironmentLacks(f"{words[0]} does not start", str(error)) from error
        self._children.append(child)
        return child

    def output(self, words: Sequence[str]) -> str:
        """What a command prints that runs where the spawned programs do."""
        done = subprocess.run((*self._inside, *words), capture_output=True, text=True, check=True)
        return done.stdout

    def tail(self, log: str) -> str:
        """The last line a program printed, for an error message."""
        lines = (self.directory / log).read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it became true in time; asked every 20 ms."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def stop(pid: int) -> None:
    """SIGSTOP, and wait until it has; the stage's end wakes it for SIGTERM."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")


def _environment() -> dict[str, str]:
    """This process's environment, with hatrace importable in Python children."""
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    return dict(os.environ) | {"PYTHONPATH": path}
