"""Flows that ended, from each CPU's own lane (bpf/lanes.h): no lock, no header, copied at once."""

from __future__ import annotations

import mmap
from itertools import chain, count

from hatrace.kernel.wire import LANE
from hatrace.model.flow import LAYOUT

_WORDS = LANE.size // 8
_WRITTEN, _READ = 0, 2
"""Their places in ``struct lane``, in words."""


class Lanes:
    """Consumer's end of all lanes; the fds stay the caller's.  ``room``: flows of each."""

    def __init__(self, lanes_fd: int, flows_fd: int, cpus: int, room: int) -> None:
        self._room, self._bytes = room, room * LAYOUT.size
        self._lanes = mmap.mmap(lanes_fd, cpus * LANE.size)
        self._flows = mmap.mmap(flows_fd, cpus * self._bytes, prot=mmap.PROT_READ)
        self._view = memoryview(self._flows)
        # One load, one store each, as with the ring.
        self._words = memoryview(self._lanes).cast("Q")
        self._starts = range(0, cpus * _WORDS, _WORDS)

    def waiting_bytes(self) -> int:
        return sum(self._flows_waiting()) * LAYOUT.size

    def half_full(self) -> bool:
        """Whether one of them is: flows that find it full take the dearer ring."""
        return 2 * max(self._flows_waiting()) > self._room

    def _flows_waiting(self) -> list[int]:
        words = self._words
        return [words[at + _WRITTEN] - words[at + _READ] for at in self._starts]

    def drain(self, before: bytes = b"") -> bytes:
        """``before``, and all flows so far, packed, in one copy; frees their room."""
        ends = [self._words[at + _WRITTEN] for at in self._starts]
        flows = b"".join([before, *chain.from_iterable(map(self._waiting, count(), ends))])
        for at, end in zip(self._starts, ends, strict=True):
            self._words[at + _READ] = end
        return flows

    def _waiting(self, cpu: int, end: int) -> list[memoryview]:
        """A CPU's flows up to ``end``, where they lie: in two parts where they wrap."""
        begin = self._words[self._starts[cpu] + _READ]
        if begin == end:
            return []
        base = cpu * self._bytes
        first = base + begin % self._room * LAYOUT.size
        last = base + end % self._room * LAYOUT.size
        if first < last:
            return [self._view[first:last]]
        return [self._view[first : base + self._bytes], self._view[base:last]]

    def close(self) -> None:
        self._view.release()
        self._words.release()
        self._lanes.close()
        self._flows.close()
