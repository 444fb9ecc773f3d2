"""Frame: all that one picture of the live view shows, immutable, folded off-screen.

Text in it is as it came: the drawing code escapes what it prints.  None means unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatrace.model.attribution import Role
from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Losses, Trouble
from hatrace.model.finding import Finding


@dataclass(frozen=True, slots=True)
class Header:
    """What is looked at, from where, how well, and at what cost."""

    host: str
    haproxy: tuple[str, ...]
    """Versions; empty: none seen."""
    processes: str
    """``worker 812, master 700``."""
    rung: str
    blind_spots: tuple[str, ...]
    scope: str
    losses: Losses
    started_unix_s: float
    now_unix_s: float
    elapsed_s: float
    cpu_share: float | None = None
    """hatrace's own, of one CPU."""
    resident_bytes: int | None = None
    bpf_share: float | None = None
    """Of one CPU; None: not measured."""
    bpf_sampled: bool = False
    """It was measured for a part of the time only."""
    watched: str = ""
    """In words, for when there is nothing else to say; empty: nothing yet."""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target: a server, a check address, a listening port, a peer."""

    role: Role
    name: str
    """``backend/server``, a frontend, or the address."""
    address: str
    pid: int
    """0: inbound, whoever accepts."""
    open: int
    held: int
    """Suspects of the latest scan which their owner has not let go."""
    born_per_s: float | None
    gone_per_s: float | None
    failed: int
    reset: int
    oldest_s: float | None
    """Age of the oldest held suspect."""
    median_s: float | None
    """Upper bound of the median lifetime's bucket; inf: longer than any bucket."""
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True, slots=True)
class CheckRow:
    """The health (or agent) checks of one server by one process."""

    server: str
    agent: bool
    pid: int
    status: str
    expected_s: float | None
    expected_name: str
    observed_s: float | None
    last_result: str
    last_took_s: float | None
    """None: still running, or nothing seen."""
    last_ago_s: float | None
    started: int
    ended: int
    held: int
    healthy_held: int
    """More than so many held at once is not healthy."""


@dataclass(frozen=True, slots=True)
class SocketRow:
    """One command-line socket and who sits on it."""

    path: str
    master: bool
    pid: int
    used: int
    limit: int | None
    waiting: int
    """Connections not accepted yet."""
    level: str
    holders: tuple[str, ...]
    """``socat (pid 1234) x3``, most slots first; ``client has left x2``."""
    calls: int | None = None
    """Connections to it since hatrace came; None: they were not counted."""
    callers: tuple[str, ...] = ()
    """``socat (pid 1234) x30``, the latest first."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture."""

    header: Header
    findings: tuple[Finding, ...] = ()
    """The worst first, then what hurts soonest."""
    targets: tuple[TargetRow, ...] = ()
    checks: tuple[CheckRow, ...] = ()
    sockets: tuple[SocketRow, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    scan_truncated: int = 0
    """Suspects that found no room in the latest scan: held counts are lower bounds."""


def before_first_tick(info: CaptureInfo) -> Frame:
    """What can be shown before anything was seen."""
    started_s = info.wall_s(info.started_ns)
    header = Header(
        host=info.host,
        haproxy=info.haproxy_versions,
        processes="",
        rung=info.rung,
        blind_spots=info.blind_spots,
        scope=str(info.scope),
        losses=Losses(info.started_ns),
        started_unix_s=started_s,
        now_unix_s=started_s,
        elapsed_s=0.0,
    )
    return Frame(header)
