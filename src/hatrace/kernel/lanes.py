"""Flows that ended, from each CPU's own lane (bpf/lanes.h): no lock, no header, copied at once."""

from __future__ import annotations

import mmap

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
        # One load, one store each, as with the ring.
        self._words = memoryview(self._lanes).cast("Q")
        self._starts = range(0, cpus * _WORDS, _WORDS)

    def waiting_bytes(self) -> int:
        words = self._words
        waiting = sum(words[at + _WRITTEN] - words[at + _READ] for at in self._starts)
        return waiting * LAYOUT.size

    def drain(self) -> bytes:
        """All flows so far, packed; frees their room."""
        return b"".join(map(self._drain, range(len(self._starts))))

    def _drain(self, cpu: int) -> bytes:
        at = self._starts[cpu]
        read, written = self._words[at + _READ], self._words[at + _WRITTEN]
        if read == written:
            return b""
        base = cpu * self._bytes
        first = base + read % self._room * LAYOUT.size
        last = base + written % self._room * LAYOUT.size
        if first < last:
            flows = self._flows[first:last]
        else:
            flows = self._flows[first : base + self._bytes] + self._flows[base:last]
        self._words[at + _READ] = written
        return flows

    def close(self) -> None:
        self._words.release()
        self._lanes.close()
        self._flows.close()
