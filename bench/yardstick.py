"""How fast the CPUs are right now: bench/yardstick.c.

A machine of many tenants changes its speed by a fifth within seconds; what a work does for the
time that a pipe takes on the same CPUs stays the same to some percent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from statistics import mean

from bench.compiled import Program, compiled


class Yardstick:
    """One on every CPU, at work all the time: it takes some 3 % of each."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def begin(self) -> None:
        """What comes now is measured."""
        self._program.ask()

    def pipe_s(self, cpus: Collection[int]) -> float:
        """CPU seconds of one pipe since the beginning, in the mean of these CPUs.

        One that has not come to it is left out.
        """
        ns = [float(word) for word in self._program.ask()]
        return mean(ns[cpu] for cpu in cpus if ns[cpu]) / 1e9


@contextmanager
def yardstick() -> Iterator[Yardstick]:
    with compiled("yardstick.c", "hatrace-yardstick") as program:
        yield Yardstick(program)
