"""Scenario: one leak (or a healthy look-alike), with what is real in it and what is injected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hatrace.lab.haproxy import HAProxy
from hatrace.lab.stage import Stage
from hatrace.model.capture_info import Scope, ScopeKind


@dataclass(frozen=True, slots=True)
class Expected:
    """The finding that hatrace must give."""

    slug: str
    cause: str
    """Which of the finding's causes, in a word or two that it contains."""
    also: tuple[str, ...] = ()
    """Slugs of further findings that are true here, too."""


@dataclass(frozen=True, slots=True)
class Running:
    """A scenario that plays: HAProxy serves, the peers do what they do, the leak grows."""

    haproxy: HAProxy
    facts: Mapping[str, object] = field(default_factory=dict)
    """What a test or a reader wants to know: ports, pids, intervals."""
    pids: tuple[int, ...] = ()
    """The processes to look at, if not just HAProxy's."""

    @property
    def scope(self) -> Scope:
        """The lab's own processes, and no other HAProxy of this host."""
        return Scope(ScopeKind.PID, tuple(map(str, self.pids or (self.haproxy.pid,))))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A script for a `Stage`.  ``play(stage, binary)`` starts it; ending the stage ends it."""

    name: str
    title: str
    real: str
    injected: str
    expects: Expected | None
    """None: nothing may be found."""
    interval_s: float
    """Its own beat: a finding is due within three."""
    play: Callable[[Stage, Path | None], Running]
    before_s: float = 0.0
    """So long it goes on before hatrace comes."""
    since: str = ""
    """The first series of HAProxy that has what it needs (``3.2``); empty: any."""
    until: str = ""
    """The last series whose HAProxy does so; empty: all."""
    brings: str = ""
    """It compiles its own HAProxy, from the source of this series, and takes no other."""
