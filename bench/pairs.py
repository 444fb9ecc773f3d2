"""What a work loses of its throughput to a tool, by short runs in pairs: with the tool, without.

A machine of many tenants changes its speed by a fifth from one half minute to the next, so runs
are compared only with their neighbours, whose order alternates, and many pairs are taken.  Nothing
against nothing tells what such a comparison is worth.

hatrace lets the kernel time its programs for a second of every thirty, and the first of these
would be half of such a short run: it is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import quantiles

from bench.aims import LOST_OF_PEER, MOST_LOST, MOST_REQUESTS_LOST, RECORD, Aim
from bench.table import PEER, tabulate
from bench.tools import NOTHING, Tool, attached, known, record
from bench.work import WORKS, Done, Run, Work

PAIRED = ("loop", "close")
TOOLS = (NOTHING, RECORD, PEER)
SECONDS = 0.5
"""Of each run; wrk takes whole seconds only."""


@dataclass(frozen=True)
class Lost:
    """The part of its throughput that a work loses to a tool: quartiles over the pairs."""

    work: str
    tool: str
    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.1%} ({self.low:.1%} to {self.high:.1%})"


def run(pairs: int) -> tuple[Lost, ...]:
    return tuple(lost for work in WORKS if work.name in PAIRED for lost in _of_work(work, pairs))


def _of_work(work: Work, pairs: int) -> Iterator[Lost]:
    """One pair of each tool in turn."""
    every = known(work.scope) | {RECORD: record(work.scope, "--no-bpf-stats")}
    tools = [every[name] for name in TOOLS]
    ratios: dict[str, list[float]] = {tool.name: [] for tool in tools}
    with work.ready() as run:
        for number in range(pairs):
            print(f"pairs: {work.name}, {number + 1} of {pairs}", file=sys.stderr)
            for tool in tools:
                ratios[tool.name].append(_pair(run, tool, first=number % 2 == 0))
    for tool in tools:
        low, median, high = quantiles(ratios[tool.name], n=4)
        yield Lost(work.name, tool.name, 1 - high, 1 - median, 1 - low)


def _pair(run: Run, tool: Tool, first: bool) -> float:
    """Operations for the same CPU time of the work's process, of those without the tool."""
    before = None if first else run(SECONDS)
    with attached(tool):
        beside = run(SECONDS)
    return _per_cpu_s(beside) / _per_cpu_s(before or run(SECONDS))


def _per_cpu_s(done: Done) -> float:
    assert done.cpu_s, "a work tells the CPU time of its process"
    return done.count / done.cpu_s


def table(found: Sequence[Lost]) -> str:
    rows = [(lost.work, lost.tool, str(lost)) for lost in found]
    return tabulate(("work", "tool", "throughput lost, per CPU time: median (quartiles)"), rows)


def aims(found: Sequence[Lost]) -> list[Aim]:
    by = {(lost.work, lost.tool): lost for lost in found}
    return [_of_loop(*(by["loop", tool] for tool in TOOLS)), _of_close(by)]


def _of_loop(nothing: Lost, ours: Lost, theirs: Lost) -> Aim:
    return Aim(
        "throughput lost in `loop`, per CPU time",
        f"at most a tenth of what `{PEER}` costs, under {MOST_LOST:.0%}",
        f"{ours}; `{PEER}` {theirs}; nothing {nothing}",
        ours.median <= LOST_OF_PEER * theirs.median and ours.median < MOST_LOST,
    )


def _of_close(by: dict[tuple[str, str], Lost]) -> Aim:
    ours, nothing = by["close", RECORD], by["close", NOTHING]
    return Aim(
        "HAProxy's requests/s lost in `close`, per CPU time",
        f"under {MOST_REQUESTS_LOST:.0%}, within noise",
        f"{ours}; nothing {nothing}",
        ours.median < MOST_REQUESTS_LOST,
    )
