"""Desk: whom an action shows things to, whom it asks, and who writes down what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hatrace.model.event import Event
from hatrace.model.finding import Evidence, Step


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that an action would change."""

    text: str
    """What, in words that follow "would": ``end the 3 sessions of be/s1 in worker 812``."""
    command: str
    """The same by hand, for a root shell; a line for each command."""
    undo: str = ""
    """What takes it back, as `command`; empty: nothing can."""
    record: str = ""
    """As the capture names it; empty: as `text` does."""


@dataclass(frozen=True, slots=True)
class Result:
    """How an action ended."""

    left: int
    """What should be gone and is not, or may not be: sockets, sessions, processes."""
    sentence: str
    next_steps: tuple[Step, ...] = ()


class Desk(Protocol):
    """Where an action meets its user.

    In a dry run `agreed` shows the change and says no: an action then goes on to its next
    step, and changes nothing.
    """

    @property
    def dry_run(self) -> bool: ...

    def say(self, text: str) -> None:
        """A fact, on one line."""

    def show(self, title: str, rows: Sequence[Evidence]) -> None:
        """Sockets, one a row."""

    def agreed(self, change: Change) -> bool:
        """Whether it may be done; without an answer it may not."""

    def did(self, change: Change, result: str) -> None:
        """It was done (or tried); becomes an `Action` event."""

    def saw(self, event: Event) -> None:
        """Evidence for the capture."""
