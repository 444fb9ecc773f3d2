"""Storms: what hatrace records, loses and names when everything happens at once.

In one run of `hatrace record`: all connections of a crowd are reset in the same moment, and the
other ends stay held, dead, as a leak of that size; then a multitude of connections comes and goes
as fast as the machine makes them.  What the capture says is held against what was done.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.crowd import SCOPE, crowd
from bench.table import tabulate
from bench.tools import attached, known
from bench.work import Done
from hatrace.capture.reader import read
from hatrace.model.event import Event, Finished, Losses, Open, Targets
from hatrace.model.flow import LAYOUT

SETTLE_S = 4.0
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
    """The most sockets that findings count together."""
    cpu_s: float
    resident_bytes: int
    file_bytes: int


def run(connections: int, storm: int) -> Storm:
    print(f"storms: {connections:,} resets, {storm:,} born and gone", file=sys.stderr)
    with crowd(connections) as people, attached(known(SCOPE)["hatrace record"]) as running:
        assert running is not None
        time.sleep(SETTLE_S)
        before_s = processes.cpu_s(running.session)
        reset = people.reset()
        time.sleep(NAMED_S)
        born = people.storm(storm)
        time.sleep(SETTLE_S)
        cpu_s = processes.cpu_s(running.session) - before_s
        resident = processes.resident_bytes(running.session)
        return _told(running.output, Done(reset.count, reset.seconds), born, cpu_s, resident)


def _told(path: Path, reset: Done, born: Done, cpu_s: float, resident_bytes: int) -> Storm:
    """What a file says that is still being written."""
    capture = read(path)
    events: list[Event] = list(capture.events)
    totals = [event for event in events if isinstance(event, Targets)][-1]
    losses = [event for event in events if isinstance(event, Losses)][-1]
    finished = [event for event in events if isinstance(event, Finished)]
    latest = {change.finding.key: change.finding.count for change in capture.findings}
    return Storm(
        reset,
        born,
        max(event.matched for event in events if isinstance(event, Open)),
        sum(row.gone for row in totals.rows),
        sum(len(event.records) for event in finished) // LAYOUT.size,
        losses.total,
        sum(latest.values()),
        cpu_s,
        resident_bytes,
        path.stat().st_size,
    )


def table(storm: Storm) -> str:
    per_s = storm.born.count / storm.born.seconds
    return tabulate(
        ("what", "how much"),
        [
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
        ],
    )
