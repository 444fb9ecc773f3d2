"""What grows with the number of open flows, and what does not.

For each number: the crowd opens its connections before the tool comes.  Then, in turn: a rung of
our own is attached, to time its inventory and its scan alone; `hatrace live` watches the crowd
do nothing; and it watches one in a hundred connections a second end and come again, but no fewer
than `LEAST_PER_S`, so that there is something to be measured.  What an event costs is told
twice: by new connections of others in its scope, which are always the same, and by the crowd's own
that end: old ones, which a scan has seen and nobody has touched since.  These are as many at each
level, of as many processes, in a row: else one would measure how warm a process finds the caches
when it wakes up for one connection or for many.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from math import log10
from statistics import median

from bench import bpf, processes
from bench.aims import Aim
from bench.crowd import COMM, PORT, Crowd, crowd
from bench.table import tabulate
from bench.tools import Running, attached, live
from bench.work import Done
from hatrace.kernel.maps import fitting
from hatrace.kernel.probes import Probes, attach
from hatrace.kernel.wire import Criteria
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.sockets.counters import host_counters

LEVELS = (1_000, 10_000, 100_000, 1_000_000)
CHURN = 0.01
LEAST_PER_S = 200.0
SETTLE_S, SETTLED_PER_S = 8.0, 50_000
"""The first looks at everything cost more than all that follow."""
SCANS = 7
SUSPECTS = 1_000
STORM, STORMS = 10_000, 5
"""So many connections for the BPF time of one: what others do meanwhile counts little.  Of so many
storms the median: one of them may meet a slow second of the machine."""
FEW = 2
OLD, OLD_TIMES, OLD_AFTER_S = 500, 10, 2.5
"""So many of the crowd's connections end and come again while BPF time is counted; as all of the
fewest are replaced each time, scans see the new ones before they are the old ones."""
READERS = ("scan", "inventory")
SOCKETS, MOST_INVENTORY_S = 70_000, 0.5
IDLE_FLOWS, MOST_IDLE, MOST_BYTES = 100_000, 0.02, 50_000_000
IDLE_S = 60.0
"""An inventory of so many comes that seldom, and belongs to what they cost."""
TIME_WAIT_S, FEW_TIME_WAITS = 60, 5_000
"""TCP_TIMEWAIT_LEN, include/net/tcp.h."""
MANY_FLOWS, MOST_PICKING_S = 1_000_000, 0.1
FLAT = 1.25
"""So much more may an event take among the most flows than among the fewest."""
BAR = 40


@dataclass(frozen=True)
class Level:
    """One number of open flows."""

    flows: int
    inventory_s: float
    scan_s: float
    whole_s: float
    """A scan that looks at the calm ones, too."""
    picking_s: float
    """A scan which finds a thousand suspects among them."""
    idle_share: float
    """Of one CPU."""
    churn_share: float
    per_s: float
    """Connections that ended and came each second."""
    bpf_us: float
    """Of the hooks, for each of the connections of others' storms."""
    old_us: float
    """The same, for one of the crowd's that ends, and a new one in its place."""
    resident_bytes: int


def measure(flows: int, seconds: float) -> Level:
    with crowd(flows // 2) as people:
        with (
            crowd(FEW, PORT + 1) as others,
            attached(live(people.scope + others.scope)) as running,
        ):
            assert running is not None
            time.sleep(max(SETTLE_S, flows / SETTLED_PER_S))
            if flows >= IDLE_FLOWS:
                _wait_for_time_waits()
            idle_s = IDLE_S if flows >= IDLE_FLOWS else seconds
            idle = processes.share(running.session, lambda: time.sleep(idle_s))
            per_s = max(LEAST_PER_S, CHURN * people.connections)
            busy = processes.share(running.session, lambda: people.churn(per_s, seconds))
            bpf_us = _bpf_us(running, lambda: others.storm(STORM), STORMS)
            old_us = _bpf_us(running, lambda: people.next(OLD), OLD_TIMES, OLD_AFTER_S)
            resident = processes.resident_bytes(running.session)
        inventory_s, scan_s, whole_s, picking_s = _alone(people)
    return Level(
        2 * people.connections,
        inventory_s,
        scan_s,
        whole_s,
        picking_s,
        idle,
        busy,
        per_s,
        bpf_us,
        old_us,
        resident,
    )


def _wait_for_time_waits() -> None:
    """Until those of the level before are over, a minute later: looking at many costs, too."""
    for _ in range(2 * TIME_WAIT_S):
        if (host_counters().tcp_time_wait or 0) < FEW_TIME_WAITS:
            return
        time.sleep(1)


def _alone(people: Crowd) -> tuple[float, float, float, float]:
    """Seconds of the first inventory (as a session asks for it: holders of suspects only), of a
    scan, of one of the whole table, and of one that picks suspects."""
    pids = list(processes.named(COMM))
    scope = Scope(ScopeKind.PID, tuple(map(str, pids)))
    probes = attach(scope, sizes=fitting(2 * people.connections))
    assert probes is not None
    with closing(probes):
        probes.follow(pids)
        inventory_s = _seconds(lambda: probes.inventory(wanted=frozenset()))
        scan_s = _scan_s(probes, Criteria())
        whole_s = _scan_s(probes, Criteria(whole=True))
        return inventory_s, scan_s, whole_s, _picking_s(probes, people)


def _scan_s(probes: Probes, criteria: Criteria) -> float:
    """The first one sees everything for the first time, or something that it asks for."""
    probes.scan(criteria)
    return median(_seconds(lambda: probes.scan(criteria)) for _ in range(SCANS))


def _picking_s(probes: Probes, people: Crowd) -> float:
    wanted = people.half(SUSPECTS).count
    criteria = Criteria(half_closed_ns=1)
    found = probes.scan(criteria)[1]
    assert found >= wanted, f"{found} suspects of {wanted} are reported"
    return _scan_s(probes, criteria)


def _seconds(work: Callable[[], object]) -> float:
    """CPU time: what else runs meanwhile does not count, and it never waits for anything."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def _bpf_us(running: Running, work: Callable[[], Done], times: int, pause_s: float = 0.0) -> float:
    """Of the hooks, for each connection: what runs in the calls of those who make them."""
    hooks = [program for program in running.programs if bpf.name(program) not in READERS]
    with bpf.stats_enabled():
        return median(_once_us(hooks, work, pause_s) for _ in range(times))


def _once_us(hooks: list[int], work: Callable[[], Done], pause_s: float) -> float:
    time.sleep(pause_s)
    before = bpf.total(bpf.run_times(hooks).values())
    done = work()
    return (bpf.total(bpf.run_times(hooks).values()) - before).ns / done.count / 1e3


def table(levels: tuple[Level, ...]) -> str:
    head = (
        "open flows",
        "inventory ms",
        "scan ms",
        "of the whole ms",
        f"picking {SUSPECTS:,} ms",
        "idle CPU",
        "connections/s",
        "CPU then",
        "BPF us/connection",
        "of old ones",
        "resident MB",
    )
    return tabulate(head, [_row(level) for level in levels])


def _row(level: Level) -> list[str]:
    return [
        f"{level.flows:,}",
        f"{level.inventory_s * 1e3:,.0f}",
        f"{level.scan_s * 1e3:,.1f}",
        f"{level.whole_s * 1e3:,.0f}",
        f"{level.picking_s * 1e3:,.1f}",
        f"{level.idle_share:.1%}",
        f"{level.per_s:,.0f}",
        f"{level.churn_share:.1%}",
        f"{level.bpf_us:.2f}",
        f"{level.old_us:.2f}",
        f"{level.resident_bytes / 1e6:.0f}",
    ]


@dataclass(frozen=True)
class Growth:
    levels: tuple[Level, ...]
    inventory_s: float
    """Of `SOCKETS`."""


def plot(levels: tuple[Level, ...]) -> str:
    """BPF time for each connection, and the share of the CPU, as bars."""
    columns = (
        ("BPF us/connection", [level.bpf_us for level in levels], "{:.2f}"),
        ("BPF us/connection, of old ones", [level.old_us for level in levels], "{:.2f}"),
        ("idle CPU", [level.idle_share * 100 for level in levels], "{:.1f} %"),
        ("inventory and scan us/flow", [_look_us(level) for level in levels], "{:.2f}"),
    )
    return "\n\n".join(
        "\n".join([f"{name}, by open flows", *_bars(levels, values, pattern)])
        for name, values, pattern in columns
    )


def _look_us(level: Level) -> float:
    return (level.inventory_s + level.scan_s) / level.flows * 1e6


def _bars(levels: tuple[Level, ...], values: list[float], pattern: str) -> list[str]:
    most = max(values) or 1
    return [
        f"{level.flows:>10,}  {'#' * max(1, round(BAR * value / most)):<{BAR}}  "
        + pattern.format(value)
        for level, value in zip(levels, values, strict=True)
    ]


def aims(found: Growth) -> list[Aim]:
    said = [
        Aim(
            f"inventory of {SOCKETS:,} sockets",
            f"under {MOST_INVENTORY_S} s",
            f"{found.inventory_s:.2f} s",
            found.inventory_s < MOST_INVENTORY_S,
        )
    ]
    for level in found.levels:
        said += _of_level(level, round(log10(level.flows), 1))
    first, last = found.levels[0], found.levels[-1]
    grown, old_grown = last.bpf_us / first.bpf_us, last.old_us / first.old_us
    return [
        *said,
        Aim(
            f"growth from {first.flows:,} to {last.flows:,} open flows",
            "time per event flat",
            f"{first.bpf_us:.2f} to {last.bpf_us:.2f} us of BPF a new one ({grown:.2f} times), "
            f"{first.old_us:.2f} to {last.old_us:.2f} where an old one ends ({old_grown:.2f})",
            max(grown, old_grown) < FLAT,
        ),
    ]


def _of_level(level: Level, size: float) -> list[Aim]:
    if size == round(log10(IDLE_FLOWS), 1):
        return [
            Aim(
                f"consumer CPU at {level.flows:,} open idle flows, live view on",
                f"under {MOST_IDLE:.0%}",
                f"{level.idle_share:.1%}",
                level.idle_share < MOST_IDLE,
            ),
            Aim(
                f"resident memory, live, {level.flows:,} open flows",
                f"under {MOST_BYTES / 1e6:g} MB",
                f"{level.resident_bytes / 1e6:.0f} MB",
                level.resident_bytes < MOST_BYTES,
            ),
        ]
    if size == round(log10(MANY_FLOWS), 1):
        return [
            Aim(
                f"picking suspects among {level.flows:,} open flows",
                f"under {MOST_PICKING_S * 1e3:g} ms, in the kernel",
                f"{level.scan_s * 1e3:,.0f} ms; with {SUSPECTS:,} to report "
                f"{level.picking_s * 1e3:,.0f}",
                max(level.scan_s, level.picking_s) < MOST_PICKING_S,
            )
        ]
    return []


def run(seconds: float, most: int) -> Growth:
    """All levels up to ``most`` open flows; says on stderr how far it is."""
    print(f"growth: inventory of {SOCKETS:,} sockets", file=sys.stderr)
    with crowd(SOCKETS // 2) as people:
        inventory_s = _alone(people)[0]
    levels = []
    for flows in LEVELS:
        if flows <= most:
            print(f"growth: {flows:,} open flows", file=sys.stderr)
            levels.append(measure(flows, seconds))
    return Growth(tuple(levels), inventory_s)
