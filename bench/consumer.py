"""What the consumer takes of a CPU: for finished flows, and for the live view of a busy host.

For a million finished flows what it takes anyway is taken off: hatrace's ticks cost the same
whether flows end or not, and a million of them would else cost the more the slower they come.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from bench import processes
from bench.aims import Aim, if_so
from bench.crowd import crowd
from bench.table import tabulate
from bench.tools import attached, live, record
from bench.work import WORKS

MOST_FULL_S, MOST_SUMMARY_S, MOST_LIVE = 1.0, 0.05, 0.05
SETTLE_S = 4.0
CONNECTIONS = 2_000
PER_S = 10_000.0
LOOP = next(work for work in WORKS if work.name == "loop")


@dataclass(frozen=True)
class Recording:
    """CPU of `hatrace record` for finished flows; ``idle``: its share when none ended."""

    detail: str
    flows: int
    seconds: float
    cpu_s: float
    idle: float

    @property
    def total_s(self) -> float:
        """For a million, ticks and all."""
        return self.cpu_s / self.flows * 1e6

    @property
    def each_s(self) -> float:
        """For a million, without what the ticks take."""
        return (self.cpu_s - self.idle * self.seconds) / self.flows * 1e6


@dataclass(frozen=True)
class Consumer:
    recordings: tuple[Recording, ...]
    live_share: float
    live_per_s: float


def run(rounds: int, seconds: float) -> Consumer:
    print("consumer: finished flows", file=sys.stderr)
    recordings = tuple(_recordings(rounds, seconds))
    print(f"consumer: live at {PER_S:,.0f} connections/s", file=sys.stderr)
    share, per_s = _live(seconds)
    return Consumer(recordings, share, per_s)


def _recordings(rounds: int, seconds: float) -> Iterator[Recording]:
    with LOOP.ready() as work:
        for _ in range(rounds):
            for detail in ("full", "summary"):
                with attached(record(LOOP.scope, "--detail", detail)) as running:
                    assert running is not None
                    time.sleep(SETTLE_S)
                    idle = processes.share(running.session, lambda: time.sleep(seconds))
                    before_s = processes.cpu_s(running.session)
                    done = work(seconds)
                    time.sleep(1.0)  # what waits in the ring counts, too
                    cpu_s = processes.cpu_s(running.session) - before_s
                yield Recording(detail, 2 * done.count, done.seconds + 1.0, cpu_s, idle)


def _live(seconds: float) -> tuple[float, float]:
    with crowd(CONNECTIONS) as people, attached(live(people.scope)) as running:
        assert running is not None
        time.sleep(SETTLE_S)
        before_s = processes.cpu_s(running.session)
        done = people.churn(PER_S, seconds)
        cpu_s = processes.cpu_s(running.session) - before_s
        return cpu_s / done.seconds, done.count / done.seconds


def _of(found: Consumer, detail: str) -> list[Recording]:
    return [one for one in found.recordings if one.detail == detail]


def table(found: Consumer) -> str:
    head = ("detail", "flows", "own CPU s", "of it ticks", "s per million", "without ticks")
    rows = [
        (
            one.detail,
            f"{one.flows:,}",
            f"{one.cpu_s:.2f}",
            f"{one.idle * one.seconds:.2f}",
            f"{one.total_s:.2f}",
            f"{one.each_s:.2f}",
        )
        for one in found.recordings
    ]
    return tabulate(head, rows)


def aims(found: Consumer) -> list[Aim]:
    return [
        _per_million(found, "full", MOST_FULL_S),
        _per_million(found, "summary", MOST_SUMMARY_S),
        Aim(
            f"consumer CPU at {PER_S:,.0f} connections/s, live view on",
            f"under {MOST_LIVE:.0%}",
            f"{found.live_share:.1%} at {found.live_per_s:,.0f}/s, two flows each",
            if_so(found.live_share < MOST_LIVE, found.live_per_s > 0.95 * PER_S),
        ),
    ]


def _per_million(found: Consumer, detail: str, most_s: float) -> Aim:
    each = median(one.each_s for one in _of(found, detail))
    total = median(one.total_s for one in _of(found, detail))
    what = f"consumer CPU per million finished flows, recording, {detail}"
    measured = f"{each:.2f} s; with the ticks {total:.2f} s"
    return Aim(what, f"under {most_s:g} s", measured, each < most_s)
