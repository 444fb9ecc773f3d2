"""Troubles said once: when they begin, when their reason changes, and when they are over."""

from __future__ import annotations

import time
from collections.abc import Callable

from hatrace.model.event import Event, Trouble


class Troubles:
    """Remembers what lasts; ``put`` gets each change as an event."""

    def __init__(self, put: Callable[[Event], None]) -> None:
        self._put = put
        self._open: dict[tuple[str, str], str] = {}

    def begin(self, source: str, subject: str, why: str, do: str = "", kind: str = "") -> None:
        """Says it, unless it is known.  ``kind`` stands for a ``why`` that holds numbers."""
        key = source, subject
        if self._open.get(key) != (kind or why):
            self._open[key] = kind or why
            self._put(Trouble(time.monotonic_ns(), source, subject, why, do))

    def over(self, source: str, subject: str, why: str = "works again") -> None:
        """Says that it is over, if it was said that it began."""
        if self._open.pop((source, subject), None) is not None:
            self._put(Trouble(time.monotonic_ns(), source, subject, why, over=True))

    def over_with(self, subject: str, why: str) -> None:
        """Ends all troubles of a subject, or of its parts (``subject: part``), from any source."""
        for source, each in list(self._open):
            if each == subject or each.startswith(f"{subject}: "):
                self.over(source, each, why)
