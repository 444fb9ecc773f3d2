"""The one way through: events are recorded, folded, judged and shown, live or replayed.

    source → recorder → world → detectors → findings → sinks

Nothing here knows where an event comes from or who looks at a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from hatrace.model.event import Event, Tick
from hatrace.model.finding import Change, Finding, FindingChange
from hatrace.model.world import World


class Detector(Protocol):
    """Asks one question of the world at each tick.  Keeps what it needs to see growth."""

    slug: str

    def observe(self, world: World) -> Iterable[Finding]:
        """Everything it finds now, one finding per subject; nothing: all is well."""


class Sink(Protocol):
    """Shows answers.  Called for each event, in order; ``changes`` only at ticks."""

    def accept(self, event: Event, world: World, changes: Sequence[FindingChange]) -> None: ...


class Recorder(Protocol):
    """Keeps raw events and what was found in them."""

    def write(self, event: Event) -> None: ...
    def found(self, change: FindingChange) -> None: ...


class Fold(World, Protocol):
    """A world that can be told an event."""

    def apply(self, event: Event) -> None: ...


class FindingBook:
    """Remembers open findings, so that only what changed is said again."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], Finding] = {}

    def update(self, findings: Iterable[Finding], now_ns: int) -> list[FindingChange]:
        """The changes from the last tick's findings to these."""
        current = {finding.key: finding for finding in findings}
        changes = [
            FindingChange(Change.RESOLVED, replace(old, at_ns=now_ns))
            for key, old in self.open.items()
            if key not in current
        ]
        for key, finding in current.items():
            old = self.open.get(key)
            if old is None:
                changes.append(FindingChange(Change.OPENED, finding))
            elif _says_something_new(old, finding):
                changes.append(FindingChange(Change.UPDATED, finding))
            else:
                current[key] = old
        self.open = current
        return changes


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
        changes: list[FindingChange] = []
        if isinstance(event, Tick):
            found = (finding for detector in detectors for finding in detector.observe(world))
            changes = book.update(found, event.at_ns)
            if recorder is not None:
                for change in changes:
                    recorder.found(change)
        for sink in sinks:
            sink.accept(event, world, changes)
    return book
