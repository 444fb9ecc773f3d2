"""Report: all that a report says, whatever it is printed as.  docs/report.schema.json is this.

Strings are as they came; printers escape them.  None means unknown.  Times that end in
``_ns`` are CLOCK_MONOTONIC of the captured host; ``started`` and ``ended`` are wall time, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Action, Cost, HostCounters, Losses, Trouble
from hatrace.model.finding import Finding
from hatrace.sinks.live.frame import CheckRow, SocketRow, TargetRow

SCHEMA_VERSION = 1


class Outcome(StrEnum):
    """The answer in a word."""

    FINDINGS = "findings"
    NOTHING_FOUND = "nothing-found"
    NOT_JUDGED = "not-judged"
    """It holds no tick, so no detector ever looked."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What hurts, or what was looked at in vain."""

    outcome: Outcome
    sentence: str
    watched: str
    """``HAProxy 2.6.12 worker 812, 8 servers, 24 targets``."""
    doubts: tuple[str, ...]
    """What bears on how far to trust it: losses, troubles, blind spots."""


@dataclass(frozen=True, slots=True)
class Span:
    """What the capture covers."""

    started: datetime
    ended: datetime
    duration_s: float
    events: int
    finished_flows: int
    """Recorded as ended, one by one."""
    summary_s: float = 0.0
    """So long, those that ended were only counted, to keep hatrace within its budget."""


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """The checks of one server, and how its latest ones ended, oldest first."""

    row: CheckRow
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A capture, judged."""

    summary: Summary
    info: CaptureInfo
    span: Span
    processes: str
    """``worker 812, old worker 640, master 700``."""
    haproxy_versions: tuple[str, ...]
    findings: tuple[Finding, ...]
    """Open at the end; the worst first, then what hurts soonest."""
    resolved: tuple[Finding, ...]
    """Came and went."""
    recorded: tuple[Finding, ...]
    """Concluded while recording, but not from what the capture still holds."""
    targets: tuple[TargetRow, ...]
    checks: tuple[CheckSummary, ...]
    sockets: tuple[SocketRow, ...]
    actions: tuple[Action, ...]
    """What hatrace changed on the host."""
    troubles: tuple[Trouble, ...]
    """What could not be read at the end."""
    losses: Losses
    cost: Cost | None
    host_at_start: HostCounters | None
    host_at_end: HostCounters | None
    schema: int = SCHEMA_VERSION
