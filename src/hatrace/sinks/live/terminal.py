"""The terminal while the live view has it: single keys, no echo, and back as it was.

cbreak mode leaves Ctrl-C, Ctrl-Z and Ctrl-\\ to the terminal's driver (termios(3): ISIG), so
they work even if hatrace is stuck.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty

from hatrace.sinks.live.keys import KeyReader


def usable() -> bool:
    """Whether a live view can be shown: a real terminal on both sides, able to move its cursor."""
    both = sys.stdin.isatty() and sys.stdout.isatty()
    return both and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


class Keyboard:
    """Keys from a terminal's file descriptor; `open` and `close` may be repeated."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[int | list[bytes | int]] | None = None
        self._reader = KeyReader()
        self.hung_up = False
        """The terminal is gone: nobody looks any more."""

    def open(self) -> None:
        try:
            self._before = self._before or termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd, termios.TCSANOW)
        except termios.error:  # the terminal has gone, as it may while a user's Ctrl-Z stops us
            self.hung_up = True

    def close(self) -> None:
        """As it was before `open`; typed ahead keys are not left to the shell."""
        before, self._before = self._before, None
        if before is not None:
            try:
                termios.tcsetattr(self._fd, termios.TCSAFLUSH, before)
            except termios.error:  # the terminal has gone: nothing is left to restore
                self.hung_up = True

    def pressed(self) -> list[str]:
        """What was pressed since the last call; never waits."""
        ready, _, _ = select.select([self._fd], [], [], 0)
        if not ready:
            return self._reader.flush()
        try:
            data = os.read(self._fd, 4096)
        except OSError:  # EIO: the terminal has gone
            data = b""
        self.hung_up = self.hung_up or not data
        return self._reader.feed(data)
