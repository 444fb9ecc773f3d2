"""A `ring` section as a log source: ``show events NAME``, again and again.

Without ``-w``: a client that waits in a ring pins it at its position, and one that stops reading
makes HAProxy drop events for everybody.  A look prints what the ring holds and takes nothing out
of it; what was seen the last time is told by its last lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

NAME = re.compile(r"[\w.:-]+")
MARK = 32
"""Last lines remembered: events repeat, but not so many in the same order."""


def names(logs: Sequence[str]) -> list[str]:
    """Of `log` lines as configured (``ring@r1``), those that name a ring."""
    found = [log.removeprefix("ring@") for log in logs if log.startswith("ring@")]
    return [name for name in dict.fromkeys(found) if NAME.fullmatch(name)]


class Ring:
    """What is new in a ring since the last look."""

    def __init__(self) -> None:
        self._mark: tuple[bytes, ...] | None = None
        self.gap = False
        """The latest look found nothing of the one before: the ring was overwritten meanwhile."""

    def new(self, dump: bytes) -> bytes:
        """Of the ring's content, what came since the last call; nothing at the first."""
        lines = [line for line in dump.split(b"\n") if line]
        mark, self._mark = self._mark, tuple(lines[-MARK:])
        self.gap = False
        if mark is None:
            return b""
        start = _after(lines, mark)
        if start is None:
            self.gap, start = True, 0
        return b"".join(line + b"\n" for line in lines[start:])


def _after(lines: Sequence[bytes], mark: tuple[bytes, ...]) -> int | None:
    """Where the lines begin that follow ``mark``; None: it is not there any more.

    The oldest lines of the mark may have been overwritten, then it begins the dump.
    """
    if not mark:
        return 0
    for end in range(len(lines), 0, -1):
        size = min(len(mark), end)
        if tuple(lines[end - size : end]) == mark[-size:]:
            return end
    return None
