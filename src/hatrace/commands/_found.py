"""A finding that a user names: as a capture of this host has it, or as it is right now."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

from hatrace import detectors
from hatrace.capture.reader import read
from hatrace.commands._journal import check_same_host, here
from hatrace.commands._tracing import Tracing
from hatrace.errors import UsageError
from hatrace.flows.table import Table
from hatrace.haproxy import known_issues
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.event import Event
from hatrace.model.finding import Change, Finding
from hatrace.model.world import World
from hatrace.pipeline import Verdict, run
from hatrace.sinks.stream import aside

LOOK_S = 8.0
"""A finding that is there from the start shows within seconds."""
SETTLE_S = 2.0
"""Then its other sockets join: those that the first look was too early to call wrong."""


def in_capture(path: Path, slug: str) -> list[Finding]:
    """The findings of that name that were open at its end; raises UsageError without one."""
    capture = read(path)
    check_same_host(capture.info, path)
    open_now: dict[tuple[str, str], Finding] = {}
    for change in capture.findings:
        if change.change is Change.RESOLVED:
            open_now.pop(change.finding.key, None)
        else:
            open_now[change.finding.key] = change.finding
    return _named(slug, list(open_now.values()), f"{path} has no open finding {slug}")


def live(slug: str, scope: Collection[int]) -> list[Finding]:
    """The findings of that name as of now; raises UsageError if there is none."""
    aside(f"looking for {slug} for up to {LOOK_S:g} s")
    watched = Scope(ScopeKind.PID, tuple(map(str, scope)))
    sink = _Seen(slug)
    with Tracing(watched, None, "summary") as tracing:
        book = run(
            tracing.events(sink.until(LOOK_S)),
            Table(here()),
            detectors.create(known_issues.matching),
            [tracing.feedback, sink],
        )
    return _named(slug, list(book.open), f"there is no finding {slug} now")


class _Seen:
    """A sink that notices when a finding has come."""

    def __init__(self, slug: str) -> None:
        self._slug = slug
        self._end_s = float("inf")

    def accept(self, event: Event, world: World, verdict: Verdict) -> None:
        if any(finding.slug == self._slug for finding in verdict.findings):
            self._end_s = min(self._end_s, time.monotonic() + SETTLE_S)

    def until(self, seconds: float) -> Callable[[], bool]:
        self._end_s = time.monotonic() + seconds
        return lambda: time.monotonic() < self._end_s


def _named(slug: str, findings: list[Finding], nothing: str) -> list[Finding]:
    found = [finding for finding in findings if finding.slug == slug]
    if found:
        return found
    others = sorted({finding.slug for finding in findings})
    why = f"open are: {', '.join(others)}" if others else "none is open"
    raise UsageError(nothing, why, "choose by --pid, --state, --dst and --older instead")
