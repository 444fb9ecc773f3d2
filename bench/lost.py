"""What a work loses of its throughput to a tool: short runs, each between two without it.

Speed is told by two clocks that a change of the machine's own hits alike: operations in the CPU
time of the work's process, and that time in pipes, which the same CPUs make beside it
(bench/yardstick.py).  Nothing against nothing tells what such a comparison is worth, and empty
programs what the hooks cost before they do anything.

hatrace lets the kernel time its programs for a second of every thirty, and the first of these
would be half of such a short run: it is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, quantiles

from bench.aims import LOST_OF_PEER, MOST_LOST, MOST_REQUESTS_LOST, RECORD, Aim, if_so
from bench.measure import alternating
from bench.table import PEER, tabulate
from bench.tools import EMPTY, NOTHING, attached, known, record
from bench.work import WORKS, Run, Work
from bench.yardstick import Yardstick, yardstick

TOOLS = {
    "loop": (NOTHING, EMPTY, RECORD, PEER),
    "close": (NOTHING, EMPTY, RECORD),
    "keep-alive": (NOTHING, EMPTY, RECORD),
}
"""By work."""
SECONDS = 0.5
"""Of each run; wrk takes whole seconds only."""


@dataclass(frozen=True)
class Lost:
    """The part of its throughput that a work loses to a tool: quartiles over the rounds."""

    work: str
    tool: str
    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.1%} ({self.low:.1%} to {self.high:.1%})"


def run(rounds: int) -> tuple[Lost, ...]:
    return tuple(lost for work in WORKS for lost in _of_work(work, rounds))


def _of_work(work: Work, rounds: int) -> Iterator[Lost]:
    every = known(work.scope) | {RECORD: record(work.scope, "--no-bpf-stats")}
    tools = [every[name] for name in TOOLS[work.name]]
    kept: dict[str, list[float]] = {tool.name: [] for tool in tools}
    with work.ready() as run, yardstick() as stick:
        before = _speed(run, stick)
        for number, tool in alternating(tools, rounds):
            print(f"lost: {work.name}, {number + 1} of {rounds}: {tool.name}", file=sys.stderr)
            with attached(tool):
                beside = _speed(run, stick)
            after = _speed(run, stick)
            kept[tool.name].append(beside / mean((before, after)))
            before = after
    for tool in tools:
        low, median, high = quantiles(kept[tool.name], n=4)
        yield Lost(work.name, tool.name, 1 - high, 1 - median, 1 - low)


def _speed(run: Run, stick: Yardstick) -> float:
    """Operations in the CPU time of the work's process that a pipe takes on the same CPUs."""
    stick.begin()
    done = run(SECONDS)
    assert done.cpu_s, "a work tells the CPU time of its process"
    return done.count / done.cpu_s * stick.pipe_s(done.cpus)


def table(found: Sequence[Lost]) -> str:
    rows = [(lost.work, lost.tool, str(lost)) for lost in found]
    return tabulate(("work", "tool", "throughput lost: median (quartiles)"), rows)


def aims(found: Sequence[Lost]) -> list[Aim]:
    by = {(lost.work, lost.tool): lost for lost in found}
    return [_of_loop(by), _of_haproxy(by, "close"), _of_haproxy(by, "keep-alive")]


def _of_loop(by: dict[tuple[str, str], Lost]) -> Aim:
    ours, theirs = by["loop", RECORD], by["loop", PEER]
    return Aim(
        "throughput lost in `loop`",
        f"at most a tenth of what `{PEER}` costs, under {MOST_LOST:.0%}",
        f"{ours}; `{PEER}` {theirs}; {_floor(by, 'loop')}",
        ours.median <= LOST_OF_PEER * theirs.median and ours.median < MOST_LOST,
    )


def _of_haproxy(by: dict[tuple[str, str], Lost], work: str) -> Aim:
    """Whether too much is lost is not to be told where nothing loses so much, too."""
    ours, noise = by[work, RECORD], abs(by[work, NOTHING].median)
    reached = ours.median < MOST_REQUESTS_LOST
    return Aim(
        f"HAProxy's requests/s lost in `{work}`",
        f"under {MOST_REQUESTS_LOST:.0%}, within noise",
        f"{ours}; {_floor(by, work)}",
        if_so(reached, reached or noise < ours.median),
    )


def _floor(by: dict[tuple[str, str], Lost], work: str) -> str:
    return f"{EMPTY} {by[work, EMPTY]}; nothing {by[work, NOTHING]}"
