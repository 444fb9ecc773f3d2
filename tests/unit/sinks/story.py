"""A story to show: checks of one server of eight leak, told event by event to the real table.

Worker 100 and master 99; servers ``be/s1`` .. ``be/s8``; clients come and go; the check
sockets of ``be/s1`` pile up, one every two seconds; master's socket has three clients.
"""

from __future__ import annotations

from collections.abc import Iterator

from hatrace.flows.table import Table
from hatrace.model.event import Cost, Event, Losses, Tick
from hatrace.model.finding import (
    Change,
    Confidence,
    Evidence,
    Finding,
    FindingChange,
    Forecast,
    Growth,
    KnownBug,
    Severity,
    Step,
)
from hatrace.model.flow import Flow
from hatrace.pipeline import Verdict
from tests import factories as make

SERVERS = tuple(
    make.server(f"s{n}", address=f"192.0.2.{n}", check_address=f"192.0.2.{n}") for n in range(1, 9)
)
BLIND_SPOTS = ("accept queues of other network namespaces", "AF_UNIX closes between two looks")


def events(seconds: int) -> Iterator[Event]:
    """The first ``seconds`` of it, with a tick a second."""
    yield make.processes(make.at(0))
    yield make.configured(make.at(0))
    yield make.servers(make.at(0), *SERVERS)
    leaked: list[Flow] = []
    for second in range(1, seconds + 1):
        now_ns = make.at(second)
        if second % 2:
            leaked.append(make.check_flow(second - 0.9))
        if second % 2:
            checks = [
                make.tcp_check(second - 0.5, raddr=f"192.0.2.{n}", target=2 * n + 8)
                for n in range(2, 9)
            ]
            yield make.finished(*checks)
        yield make.open_scan(now_ns, *leaked)
        yield make.targets(now_ns, *_targets(second, len(leaked)))
        yield make.holders_of(now_ns, *leaked)
        yield make.master_connections(now_ns, clients=3, client_pid=500)
        yield Losses(now_ns)
        yield Cost(now_ns, second * 12_000_000, 48 << 20, second * 4_000_000)
        yield Tick(now_ns)


def _targets(second: int, leaked: int) -> list[object]:
    lifetimes = (0,) * 5 + (second * 60, second * 30, 0, 0, 4) + (0,) * 6
    rows: list[object] = [
        make.client_target(born=second * 120, gone=second * 117, lifetime=lifetimes),
        make.target(born=leaked, gone=0),
        make.data_target(born=second * 15, gone=second * 15 - 3, lifetime=lifetimes),
    ]
    for number in range(2, 9):
        data = {"born": second * 15, "gone": second * 15 - number, "lifetime": lifetimes}
        place = {"address": f"192.0.2.{number}"}
        rows.append(make.data_target(number * 2 + 20, **place, **data))
        check = {"born": second // 2, "gone": second // 2, "failed": number % 3}
        rows.append(make.target(number * 2 - 1 + 9, **place, **check))
    return rows


def table(seconds: int = 120, **info: object) -> Table:
    """The world after the first ``seconds``."""
    world = Table(make.info(blind_spots=BLIND_SPOTS, **info))
    for event in events(seconds):
        world.apply(event)
    return world


def finding(slug: str = "check-leak", **fields: object) -> Finding:
    """The finding of this story, as the check-leak detector might word it."""
    held = [
        Evidence.of(make.check_flow(2.0 * n), make.at(120), fd=20 + n, note="no check in progress")
        for n in range(12)
    ]
    known: dict[str, object] = {
        "slug": slug,
        "subject": "100 be/s1",
        "severity": Severity.CRITICAL,
        "confidence": Confidence.LIKELY,
        "claim": "health-check sockets of be/s1 to 192.0.2.1:8000 stay open after their check:"
        " worker 100 holds 60 of them, and one more every 2 seconds",
        "at_ns": make.at(120),
        "since_ns": make.at(6),
        "count": 60,
        "evidence": tuple(held),
        "growth": Growth(30.0, 114.0),
        "forecast": Forecast(
            "fd limit of pid 100", 75, 4096, 8042.0, "(4,096 - 75) / 30 per minute = 2 h 14 min"
        ),
        "cause": "HAProxy let the check end without closing its socket: each is ESTABLISHED,"
        " nothing was exchanged, and `show fd` names srv_chk_io_cb for it.",
        "ruled_out": (
            "a slow server: other servers at the same interval answer in 2 ms",
            "idle connections of the pool: the check port is not the service port",
        ),
        "known_bug": KnownBug("GH #0000", "an example of a published bug", "2.6.13"),
        "next_steps": (
            Step("Reload, so that a new worker starts clean", "systemctl reload haproxy"),
            Step("Close what leaked", "ss -K dst 192.0.2.1 dport = 8000"),
        ),
        "verify": (Step("No more growth for five minutes", "hatrace live -d 5m"),),
        "caveat": "",
    }
    return Finding(**(known | fields))  # type: ignore[arg-type]


def verdict(*findings: Finding, change: Change | None = None) -> Verdict:
    """Open findings; with ``change``, each of them changed so."""
    changes = tuple(FindingChange(change, one) for one in findings) if change else ()
    return Verdict(findings, changes)
