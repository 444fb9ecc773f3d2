"""The totals of every target, and who makes room for new ones."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

from hatrace.kernel import libbpf, wire
from hatrace.kernel.maps import MapId
from hatrace.model.event import Target

CROWDED = 0.75
"""Part of the room for targets from which on those of ended processes leave."""
_U32, _U64, _S64 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<q")


class Totals:
    """Owns two mappings; the maps stay the caller's.  ``room``: how many targets there may be."""

    def __init__(self, fds: Mapping[MapId, int], maps: Mapping[MapId, libbpf.Map], room: int):
        self._maps, self._room = maps, room
        self._open = mmap.mmap(fds[MapId.TARGET_OPEN], _U64.size * room)
        self._calm = mmap.mmap(fds[MapId.TARGET_CALM], _U64.size * room)
        self._keys: dict[int, bytes] = {}
        self._made = 0
        self._told: frozenset[int] = frozenset()
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

        Where room for new ones runs short, those leave which were told already and whose process
        has ended, with nothing open.
        """
        self._learn(made)
        rows = [self._row(number, key) for number, key in sorted(self._keys.items())]
        for number in self._left:
            self._maps[MapId.FREE_TARGETS].set(b"", _U32.pack(number))
        crowded = len(rows) > self._room * CROWDED
        self._left = [
            row.index for row in rows if crowded and row.index in self._told and _is_over(row)
        ]
        for number in self._left:
            self._give_up(number)
        self._told = frozenset(self._keys)
        return tuple(row for row in rows if row.index in self._told)

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
        return wire.target(number, key, totals, now)

    def _give_up(self, number: int) -> None:
        """A target leaves; its index serves another after the next look, which then lacks it."""
        self._maps[MapId.TARGET_INDEX].delete(self._keys.pop(number))
        totals, key = self._maps[MapId.TARGET_TOTALS], _U32.pack(number)
        totals.set(key, bytes(len(totals.get(key) or b"")))
        self._maps[MapId.WATCH_NS].set(key, bytes(_U64.size))

    def close(self) -> None:
        self._open.close()
        self._calm.close()


def _is_over(target: Target) -> bool:
    """Whether nobody adds to it any more: its process has ended, and has left nothing open."""
    return target.pid != 0 and not target.open and not Path(f"/proc/{target.pid}").exists()
