"""Storms: what hatrace records, loses and names when everything happens at once.

In one run of `hatrace record`: all connections of a crowd are reset in the same moment, and the
other ends stay held, dead, as a leak of that size; then a multitude of connections comes and goes
as fast as the machine makes them.  What the capture says is held against what was done.  Once
more with a ring of one page, on purpose: what is lost must be counted, and no leak overlooked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.aims import Aim
from bench.crowd import crowd
from bench.table import tabulate
from bench.tools import Tool, attached, record
from bench.work import Done
from hatrace.capture.reader import read
from hatrace.model.event import Event, Finished, Losses, Open, Targets, Tick
from hatrace.model.finding import Change

SETTLE_S = 4.0
LONGEST_S = 30
NAMED_S = 8.0
"""A dead accepted end must have been held for five seconds to be called a leak."""


@dataclass(frozen=True)
class Storm:
    """What was done, and what of it the capture has."""

    reset: Done
    born: Done
    dead: int
    """Most open flows that a scan found suspect."""
    ended: int
    """By the kernel's totals."""
    recorded: int
    lost: int
    named: int
    """Sockets that open findings of `unreleased-accept` count: the ends that were left dead."""
    cpu_s: float
    resident_bytes: int
    file_bytes: int


LEAK = "unreleased-accept"
TINY_RESETS = 2_000
"""A scan reports 4,096 suspects one by one: each of these is seen to be named."""


@dataclass(frozen=True)
class Storms:
    usual: Storm
    tiny: Storm


def run(connections: int, storm: int) -> Storms:
    return Storms(
        _run(record, connections, storm), _run(_tiny, min(connections, TINY_RESETS), storm)
    )


def _tiny(scope: tuple[str, ...]) -> Tool:
    command = (sys.executable, "-m", "bench.tiny_ring", "record", *scope, "-o", "{out}")
    return Tool("hatrace record, tiny ring", command)


def _run(tool: Callable[[tuple[str, ...]], Tool], connections: int, storm: int) -> Storm:
    print(f"storms: {connections:,} resets, {storm:,} born and gone", file=sys.stderr)
    with crowd(connections) as people, attached(tool(people.scope)) as running:
        assert running is not None
        time.sleep(SETTLE_S)
        before_s = processes.cpu_s(running.session)
        reset = people.reset()
        time.sleep(NAMED_S)
        born = people.storm(storm)
        time.sleep(SETTLE_S)
        cpu_s = processes.cpu_s(running.session) - before_s
        resident = processes.resident_bytes(running.session)
        _wait_for_picture(running.output)
        return _told(running.output, Done(reset.count, reset.seconds), born, cpu_s, resident)


def _wait_for_picture(path: Path) -> None:
    """Until the file has one of after the storm: where suspects are many, they are rare."""
    since_ns = time.monotonic_ns()
    for _ in range(LONGEST_S):
        if any(isinstance(e, Tick) and e.at_ns > since_ns for e in read(path).events):
            return
        time.sleep(1)


def _told(path: Path, reset: Done, born: Done, cpu_s: float, resident_bytes: int) -> Storm:
    """What a file says that is still being written."""
    capture = read(path)
    events: list[Event] = list(capture.events)
    totals = [event for event in events if isinstance(event, Targets)][-1]
    losses = [event for event in events if isinstance(event, Losses)][-1]
    finished = [event for event in events if isinstance(event, Finished)]
    latest = {change.finding.key: change for change in capture.findings}
    return Storm(
        reset,
        born,
        max(event.matched for event in events if isinstance(event, Open)),
        sum(row.gone for row in totals.rows),
        sum(len(event.flows) for event in finished),
        losses.total,
        sum(
            change.finding.count
            for change in latest.values()
            if change.finding.slug == LEAK and change.change is not Change.RESOLVED
        ),
        cpu_s,
        resident_bytes,
        path.stat().st_size,
    )


def table(found: Storms) -> str:
    both = (_cells(found.usual), _cells(found.tiny))
    rows = [(what, usual, tiny) for (what, usual), (_, tiny) in zip(*both, strict=True)]
    return tabulate(("what", "how much", "with a ring of one page"), rows)


def _cells(storm: Storm) -> list[tuple[str, str]]:
    per_s = storm.born.count / storm.born.seconds
    return [
        ("reset at once", f"{storm.reset.count:,} in {storm.reset.seconds:.2f} s"),
        ("found dead and held by the scan", f"{storm.dead:,}"),
        ("named in findings", f"{storm.named:,}"),
        (
            "born and gone",
            f"{storm.born.count:,} in {storm.born.seconds:.1f} s, {per_s:,.0f} connections/s",
        ),
        ("flows ended, by the kernel's totals", f"{storm.ended:,}"),
        ("flows recorded", f"{storm.recorded:,}"),
        ("lost, as counted", f"{storm.lost:,}"),
        ("own CPU", f"{storm.cpu_s:.2f} s"),
        ("resident", f"{storm.resident_bytes / 1e6:.0f} MB"),
        ("file", f"{storm.file_bytes / 1e6:.1f} MB"),
    ]


def aims(found: Storms) -> list[Aim]:
    usual, tiny = found.usual, found.tiny
    per_s = 2 * usual.born.count / usual.born.seconds
    missing = tiny.ended - tiny.recorded
    return [
        Aim(
            "events lost at the machine's highest rate",
            "none",
            f"{usual.lost:,} of {usual.ended:,}, at {per_s:,.0f} flows/s",
            usual.lost == 0 and usual.recorded == usual.ended,
        ),
        Aim(
            "with a tiny ring, on purpose",
            "losses counted exactly, every leak named",
            f"{missing:,} missing, {tiny.lost:,} counted; "
            f"{tiny.named:,} of {tiny.reset.count:,} leaks named",
            missing == tiny.lost > 0 and tiny.named == tiny.reset.count,
        ),
    ]
