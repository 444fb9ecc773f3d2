"""A `ring` section as a log source: ``show events NAME``, again and again.

Without ``-w``: a client that waits in a ring pins it at its position, and one that stops reading
makes HAProxy drop events for everybody.  A look prints what the ring holds and takes nothing out
of it; what was seen the last time is told by its last lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

NAME = re.compile(r"[\w.:-]+")


def names(logs: Sequence[str]) -> list[str]:
    """Of `log` lines as configured (``ring@r1``), those that name a ring."""
    found = [log.removeprefix("ring@") for log in logs if log.startswith("ring@")]
    return [name for name in dict.fromkeys(found) if NAME.fullmatch(name)]


class Ring:
    """What is new in a ring since the last look."""

    def __init__(self) -> None:
        self._before: list[int] | None = None
        """Hashes of all lines of the latest look."""
        self.gap = False
        """The latest look found nothing of the one before: the ring was overwritten meanwhile."""

    def new(self, dump: bytes) -> bytes:
        """Of the ring's content, what came since the last call; nothing at the first."""
        lines = [line for line in dump.split(b"\n") if line]
        now = [hash(line) for line in lines]
        before, self._before = self._before, now
        self.gap = False
        if before is None:
            return b""
        known = _overlap(before, now)
        self.gap = bool(before) and not known
        return b"".join(line + b"\n" for line in lines[known:])


def _overlap(before: Sequence[int], now: Sequence[int]) -> int:
    """How many lines at the begin of ``now`` end ``before``: the ring drops its oldest lines.

    The most that fit, so lines that repeat in a pattern may be taken for known, never for new.
    """
    for dropped in range(max(0, len(before) - len(now)), len(before)):
        size = len(before) - dropped
        if before[dropped] == now[0] and before[dropped:] == now[:size]:
            return size
    return 0
