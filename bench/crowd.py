"""Many open connections: bench/crowd.c, told what to do."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

from bench.compiled import Program, compiled
from bench.work import Done, done

COMM = "hatrace-crowd"
PORT = 28830
SPARE_FILES = 200


class Crowd:
    """Its connections have both ends in it: each is two flows."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.scope = ("--pid", str(program.pid))
        """It and its children: whatever HAProxy else this host has, is not looked at."""
        self.connections = done(program.answer()).count

    def _do(self, order: str) -> Done:
        return done(self._program.ask(order))

    def churn(self, per_s: float, seconds: float) -> Done:
        """Closes and replaces so many connections each second."""
        return self._do(f"churn {per_s} {seconds}")

    def next(self, count: int) -> Done:
        """Closes and replaces so many, each time others, of the same few processes."""
        return self._do(f"next {count}")

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
def crowd(connections: int, port: int = PORT) -> Iterator[Crowd]:
    """As many processes as the limit of files asks for."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    members = max(2, ceil(2 * connections / (files - SPARE_FILES)))
    each = ceil(connections / members)
    with compiled("crowd.c", COMM, str(port), str(members), str(each)) as program:
        yield Crowd(program)
