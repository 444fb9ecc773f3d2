"""The one way through: events are recorded, folded, judged and shown, live or replayed.

    source → recorder → world → detectors → findings → sinks

Nothing here knows where an event comes from or who looks at a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hatrace.model.event import Event, Tick
from hatrace.model.finding import Change, Finding, FindingChange
from hatrace.model.world import World


class Detector(Protocol):
    """Asks one question of the world at each tick.  Keeps what it needs to see growth."""

    slug: str

    def observe(self, world: World) -> Iterable[Finding]:
        """Everything it finds now, one finding per subject; nothing: all is well."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the detectors say as of the latest tick."""

    findings: tuple[Finding, ...] = ()
    """All that are open."""
    changes: tuple[FindingChange, ...] = ()
    """What this event changed; empty but at ticks."""


class Sink(Protocol):
    """Shows answers.  Called for each event, in order."""

    def accept(self, event: Event, world: World, verdict: Verdict) -> None: ...


class Recorder(Protocol):
    """Keeps raw events and what was found in them."""

    def write(self, event: Event) -> None: ...
    def found(self, change: FindingChange) -> None: ...


class Fold(World, Protocol):
    """A world that can be told an event."""

    def apply(self, event: Event) -> None: ...


class FindingBook:
    """Remembers what was said of each finding, so that only what changed is said again."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], Finding] = {}
        self.open: tuple[Finding, ...] = ()

    def update(self, findings: Iterable[Finding], now_ns: int) -> tuple[FindingChange, ...]:
        """The changes from the last tick's findings to these."""
        self.open = tuple(findings)
        keys = {finding.key for finding in self.open}
        gone = [key for key in self._said if key not in keys]
        changes = [
            FindingChange(Change.RESOLVED, replace(self._said.pop(key), at_ns=now_ns))
            for key in gone
        ]
        for finding in self.open:
            said = self._said.get(finding.key)
            if said is None or _says_something_new(said, finding):
                change = Change.OPENED if said is None else Change.UPDATED
                changes.append(FindingChange(change, finding))
                self._said[finding.key] = finding
        return tuple(changes)


def _says_something_new(old: Finding, new: Finding) -> bool:
    """Whether a reader of ``old`` would want to read ``new``."""
    return (old.severity, old.confidence, old.count, old.cause, old.claim) != (
        new.severity,
        new.confidence,
        new.count,
        new.cause,
        new.claim,
    )


def run(
    events: Iterable[Event],
    world: Fold,
    detectors: Sequence[Detector],
    sinks: Sequence[Sink],
    recorder: Recorder | None = None,
) -> FindingBook:
    """Drive events through to the end of the source; returns the findings still open."""
    book = FindingBook()
    for event in events:
        if recorder is not None:
            recorder.write(event)
        world.apply(event)
        changes: tuple[FindingChange, ...] = ()
        if isinstance(event, Tick):
            found = (finding for detector in detectors for finding in detector.observe(world))
            changes = book.update(found, event.at_ns)
            if recorder is not None:
                for change in changes:
                    recorder.found(change)
        for sink in sinks:
            sink.accept(event, world, Verdict(book.open, changes))
    return book
