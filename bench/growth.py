"""What grows with the number of open flows, and what does not.

For each number: the crowd opens its connections before the tool comes.  Then, in turn: a rung of
our own is attached, to time its inventory and its scan alone; `hatrace live` watches the crowd
do nothing; and it watches one in a hundred connections a second end and come again, but no fewer
than `LEAST_PER_S`, so that there is something to be measured.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import dataclass
from statistics import median

from bench import bpf, processes
from bench.crowd import COMM, SCOPE, Crowd, crowd
from bench.table import tabulate
from bench.tools import Running, attached, known
from hatrace.kernel.maps import fitting
from hatrace.kernel.probes import Probes, attach
from hatrace.kernel.wire import Criteria
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.resources import bpf_dir

LEVELS = (1_000, 10_000, 100_000, 1_000_000)
CHURN = 0.01
LEAST_PER_S = 200.0
SETTLE_S = 4.0
SCANS = 7
STORM = 20_000
"""So many connections for the BPF time of one: what others do meanwhile counts little."""
ITERATORS = ("scan", "inventory")


@dataclass(frozen=True)
class Level:
    """One number of open flows."""

    flows: int
    inventory_s: float
    scan_s: float
    picking_s: float
    """A scan which finds a thousand suspects among them."""
    idle_share: float
    """Of one CPU."""
    churn_share: float
    per_s: float
    """Connections that ended and came each second."""
    bpf_us: float
    """Of the hooks, for each of the connections of a storm."""
    resident_bytes: int


def measure(flows: int, seconds: float) -> Level:
    with crowd(flows // 2) as people:
        inventory_s, scan_s, picking_s = _alone(people)
        with attached(known(SCOPE)["hatrace live"]) as running:
            assert running is not None
            time.sleep(SETTLE_S)
            idle = _share(running, lambda: time.sleep(seconds))
            per_s = max(LEAST_PER_S, CHURN * people.connections)
            busy = _share(running, lambda: people.churn(per_s, seconds))
            bpf_us = _bpf_us(running, people)
            resident = processes.resident_bytes(running.session)
    return Level(
        2 * people.connections,
        inventory_s,
        scan_s,
        picking_s,
        idle,
        busy,
        per_s,
        bpf_us,
        resident,
    )


def _alone(people: Crowd) -> tuple[float, float, float]:
    """Seconds of the first inventory, of a scan, and of one that picks suspects."""
    pids = list(processes.named(COMM))
    scope = Scope(ScopeKind.PID, tuple(map(str, pids)))
    probes = attach(bpf_dir(), scope, sizes=fitting(2 * people.connections))
    assert probes is not None
    with closing(probes):
        probes.follow(pids)
        inventory_s = _seconds(lambda: probes.inventory())
        scan_s = median(_seconds(lambda: probes.scan(Criteria())) for _ in range(SCANS))
        return inventory_s, scan_s, _picking_s(probes)


def _picking_s(probes: Probes) -> float:
    """Idle flows are suspects to this scan: it reports the first thousand, and counts all."""
    criteria = Criteria(idle_ns=1, limit=1_000)
    return median(_seconds(lambda: probes.scan(criteria)) for _ in range(SCANS))


def _seconds(work: object) -> float:
    assert callable(work)
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _share(running: Running, work: object) -> float:
    """The tool's CPU while ``work`` is done."""
    before_s = processes.cpu_s(running.session)
    took_s = _seconds(work)
    return (processes.cpu_s(running.session) - before_s) / took_s


def _bpf_us(running: Running, people: Crowd) -> float:
    """Of the hooks: what runs in the crowd's own calls, not in the tool's."""
    hooks = [program for program in running.programs if bpf.name(program) not in ITERATORS]
    with bpf.stats_enabled():
        before = bpf.run_time(hooks)
        done = people.storm(STORM)
        return bpf.run_time(hooks).since(before).ns / done.count / 1e3


def table(levels: list[Level]) -> str:
    head = (
        "open flows",
        "inventory ms",
        "scan ms",
        "picking 1,000 ms",
        "idle CPU",
        "connections/s",
        "CPU then",
        "BPF us/connection",
        "resident MB",
    )
    return tabulate(head, [_row(level) for level in levels])


def _row(level: Level) -> list[str]:
    return [
        f"{level.flows:,}",
        f"{level.inventory_s * 1e3:,.0f}",
        f"{level.scan_s * 1e3:,.1f}",
        f"{level.picking_s * 1e3:,.1f}",
        f"{level.idle_share:.1%}",
        f"{level.per_s:,.0f}",
        f"{level.churn_share:.1%}",
        f"{level.bpf_us:.2f}",
        f"{level.resident_bytes / 1e6:.0f}",
    ]


def run(seconds: float, most: int) -> list[Level]:
    """All levels up to ``most`` open flows; says on stderr how far it is."""
    levels = []
    for flows in LEVELS:
        if flows <= most:
            print(f"growth: {flows:,} open flows", file=sys.stderr)
            levels.append(measure(flows, seconds))
    return levels
