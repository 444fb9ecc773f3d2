"""Finding: a claim, its evidence, its forecast, its cause, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hatrace.model.flow import Flow, State


class Severity(StrEnum):
    """How soon it hurts."""

    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


class Confidence(StrEnum):
    """How sure the claim is."""

    POSSIBLE = "possible"
    LIKELY = "likely"
    CERTAIN = "certain"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One socket (or process, listener ...) that supports the claim."""

    what: str
    """``tcp``, ``unix``, ``listener``, ``process``, ``log`` or ``check``."""
    pid: int | None = None
    comm: str = ""
    fd: int | None = None
    inode: int | None = None
    local: str = ""
    remote: str = ""
    state: str = ""
    condition: str = ""
    age_s: float | None = None
    """Since its birth, or since hatrace first saw it if ``preexisting``."""
    since_s: float | None = None
    """How long it has been in the wrong condition."""
    preexisting: bool = False
    sent_bytes: int | None = None
    received_bytes: int | None = None
    note: str = ""

    @classmethod
    def of(cls, flow: Flow, now_ns: int, fd: int | None = None, note: str = "") -> Evidence:
        """A flow as evidence at ``now_ns``."""
        wrong_ns = max(flow.closed_ns, flow.fin_ns, flow.released_ns)
        return cls(
            what="tcp",
            pid=flow.pid or None,
            comm=flow.comm,
            fd=fd,
            inode=flow.inode or None,
            local=flow.local,
            remote=flow.remote,
            state=State(flow.state).name,
            condition=flow.condition(now_ns).value,
            age_s=round((now_ns - flow.born_ns) / 1e9, 3),
            since_s=round((now_ns - wrong_ns) / 1e9, 3) if wrong_ns else None,
            preexisting=flow.preexisting,
            sent_bytes=flow.sent_bytes,
            received_bytes=flow.received_bytes,
            note=note,
        )


@dataclass(frozen=True, slots=True)
class Growth:
    """How fast the held sockets grow: measured over ``interval_s``, not assumed."""

    per_minute: float
    interval_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a named limit is hit.  ``arithmetic`` shows how it was computed."""

    limit: str
    """``fd limit of pid 812``, ``slots of the master socket`` ..."""
    used: int
    maximum: int
    seconds_left: float | None
    """None: it does not grow towards the limit, or the growth is not known yet."""
    arithmetic: str = ""


@dataclass(frozen=True, slots=True)
class KnownBug:
    """A published bug whose version *and* signature match what was measured."""

    reference: str
    title: str
    fixed_in: str
    """A release, or ``not verified``: no source states which release has the fix."""
    url: str = ""
    work_around: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do: words, and a command that can be pasted (empty: none)."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict.  (``slug``, ``subject``) stays the same while the trouble lasts."""

    slug: str
    subject: str
    severity: Severity
    confidence: Confidence
    claim: str
    at_ns: int
    since_ns: int
    """When hatrace first saw it."""
    count: int
    """Sockets (slots, processes ...) concerned now."""
    preexisting: int = 0
    """Of these, how many are older than hatrace."""
    evidence: tuple[Evidence, ...] = ()
    """A sample, the oldest first; ``count`` is the whole."""
    growth: Growth | None = None
    forecast: Forecast | None = None
    cause: str = ""
    ruled_out: tuple[str, ...] = ()
    known_bug: KnownBug | None = None
    next_steps: tuple[Step, ...] = ()
    verify: tuple[Step, ...] = ()
    caveat: str = ""
    """Losses or blind spots which bear on this finding."""

    @property
    def key(self) -> tuple[str, str]:
        return self.slug, self.subject


class Change(StrEnum):
    """What happened to a finding since the last tick."""

    OPENED = "opened"
    UPDATED = "updated"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class FindingChange:
    """A finding that came, changed materially, or went; at ``finding.at_ns``."""

    change: Change
    finding: Finding
