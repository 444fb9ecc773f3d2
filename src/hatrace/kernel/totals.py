"""The totals of every target, and who makes room for new ones."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

from hatrace.kernel import bpf, decode
from hatrace.kernel.maps import MapId
from hatrace.model.event import Target

CROWDED, FULL = 0.75, 0.9
"""Parts of the room for targets: from the first on those of ended processes leave, from the second
on those at rest, so many that it is crowded no more."""
REST_LOOKS = 60
"""After so many looks without a change a target is at rest: those that serve now and then stay."""
_U32, _U64, _S64 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<q")


class Totals:
    """Owns two mappings; the maps stay the caller's.  ``room``: how many targets there may be."""

    def __init__(self, fds: Mapping[MapId, int], maps: Mapping[MapId, bpf.Map], room: int):
        self._maps, self._room = maps, room
        self._open = mmap.mmap(fds[MapId.TARGET_OPEN], _U64.size * room)
        self._calm = mmap.mmap(fds[MapId.TARGET_CALM], _U64.size * room)
        self._keys: dict[int, bytes] = {}
        self._made = 0
        self._told: dict[int, Target] = {}
        self._looks = 0
        self._moved: dict[int, int] = {}
        """The look that showed a target's latest change."""
        self._left: list[int] = []

    def begin(self, whole: bool) -> None:
        """A scan is about to count what is open: anew; calm flows only if it is ``whole``."""
        self._open[:] = bytes(len(self._open))
        if whole:
            self._calm[:] = bytes(len(self._calm))

    def calm(self) -> int:
        """How many flows scans pass over."""
        return sum(memoryview(self._calm).cast("q"))

    def rows(self, made: int) -> tuple[Target, ...]:
        """All that were not given up; ``made``: how many the kernel has made so far.

        Where room for new ones runs short, some leave that have nothing open and were told as they
        are: those whose process has ended; and where servers' addresses change, or a proxy goes
        anywhere, those at rest, the longest first.  One that comes back counts anew.
        """
        self._learn(made)
        rows = {number: self._row(number, key) for number, key in sorted(self._keys.items())}
        self._looks += 1
        for number, row in rows.items():
            if row != self._told.get(number):
                self._moved[number] = self._looks
        self._hand_back()
        self._left = self._leaving(rows) if len(rows) > self._room * CROWDED else []
        for number in self._left:
            self._give_up(number)
        self._told = {number: row for number, row in rows.items() if number in self._keys}
        return tuple(self._told.values())

    def _leaving(self, rows: Mapping[int, Target]) -> list[int]:
        done = [
            number
            for number, row in rows.items()
            if self._moved[number] < self._looks and not row.open
        ]
        over = [number for number in done if _is_over(rows[number])]
        left = len(rows) - len(over)
        if left <= self._room * FULL:
            return over
        resting = sorted(filter(self._rests, set(done).difference(over)), key=self._order)
        return over + resting[: left - int(self._room * CROWDED)]

    def _rests(self, number: int) -> bool:
        """Whether it is at rest; those that are watched take checks, however rare they are."""
        if self._looks - self._moved[number] < REST_LOOKS:
            return False
        watched = self._maps[MapId.WATCH_NS].get(_U32.pack(number))
        return watched is None or not any(watched)

    def _order(self, number: int) -> tuple[int, int]:
        return self._moved[number], number

    def _learn(self, made: int) -> None:
        """The keys, if there are new ones."""
        index = self._maps[MapId.TARGET_INDEX]
        if made == self._made:
            return
        self._made = made
        for key in index:
            if value := index.get(key):
                self._keys[_U32.unpack(value)[0]] = key

    def _row(self, number: int, key: bytes) -> Target:
        totals = self._maps[MapId.TARGET_TOTALS].get(_U32.pack(number)) or b""
        at = number * _S64.size
        now = sum(_S64.unpack_from(counts, at)[0] for counts in (self._open, self._calm))
        return decode.target(number, key, totals, now)

    def _give_up(self, number: int) -> None:
        """A target leaves; its index serves another after the next look, which then lacks it."""
        self._maps[MapId.TARGET_INDEX].delete(self._keys.pop(number))
        del self._moved[number]

    def _hand_back(self) -> None:
        """Those that left at the look before: by now no hook counts for them any more."""
        totals = self._maps[MapId.TARGET_TOTALS]
        for key in map(_U32.pack, self._left):
            totals.set(key, bytes(len(totals.get(key) or b"")))
            self._maps[MapId.WATCH_NS].set(key, bytes(_U64.size))
            self._maps[MapId.FREE_TARGETS].set(b"", key)

    def close(self) -> None:
        self._open.close()
        self._calm.close()


def _is_over(target: Target) -> bool:
    """Whether nobody adds to it any more: its process has ended."""
    return target.pid != 0 and not Path(f"/proc/{target.pid}").exists()
