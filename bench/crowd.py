"""Many open connections: bench/crowd.c, compiled, started, told what to do."""

from __future__ import annotations

import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

from bench.work import HERE, Done

COMM = "hatrace-crowd"
PORT = 28830
SPARE_FILES = 200


class Crowd:
    """Its connections have both ends in it: each is two flows."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.scope = ("--pid", str(process.pid))
        """It and its children: whatever HAProxy else this host has, is not looked at."""
        self.connections = self._answer().count

    def _answer(self) -> Done:
        assert self._process.stdout
        words = self._process.stdout.readline().split()
        if len(words) != 2:
            raise RuntimeError("the crowd has ended: see what it said above")
        return Done(int(words[0]), float(words[1]))

    def _do(self, order: str) -> Done:
        assert self._process.stdin
        print(order, file=self._process.stdin, flush=True)
        return self._answer()

    def churn(self, per_s: float, seconds: float) -> Done:
        """Closes and replaces so many connections each second."""
        return self._do(f"churn {per_s} {seconds}")

    def storm(self, count: int) -> Done:
        """Makes and closes so many, as fast as it goes."""
        return self._do(f"storm {count}")

    def half(self, count: int) -> Done:
        """Shuts the sending half of so many clients: their accepted ends are in CLOSE_WAIT."""
        return self._do(f"half {count}")

    def reset(self) -> Done:
        """Aborts all clients at once; the dead accepted ends stay held."""
        return self._do("reset")


@contextmanager
def crowd(connections: int) -> Iterator[Crowd]:
    """As many processes as the limit of files asks for."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    members = max(2, ceil(2 * connections / (files - SPARE_FILES)))
    with tempfile.TemporaryDirectory(prefix="hatrace-bench-") as folder:
        program = Path(folder, COMM)
        subprocess.run(["cc", "-O2", "-Wall", "-o", program, HERE / "crowd.c"], check=True)
        with subprocess.Popen(
            [program, str(PORT), str(members), str(ceil(connections / members))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:  # its end of input is its end, and its children's
            yield Crowd(process)
