"""Ctrl-C, SIGTERM and SIGHUP end a session between two events, not within one.

So the last look is taken, the capture gets its summary and the lines their last one.  A second
signal does what it did before: an end that hangs can be ended.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending:
    """A context in which these signals only ask; use it in the main thread."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that asked for the end."""
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int] = {}

    def __enter__(self) -> Self:
        for number in ENDING:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):  # nohup ignores SIGHUP
                self._before[number] = handler
                signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
