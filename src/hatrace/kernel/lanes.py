"""Flows that ended, from each CPU's own lane (bpf/lanes.h): no lock, word by word."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from itertools import chain, count

from hatrace.kernel.wire import BLOCK, BLOCK_FLOWS, BLOCK_WORDS, LANE, blocks
from hatrace.model.columns import WORD_BYTES, WORDS, Columns
from hatrace.model.flow import LAYOUT

_LANE_WORDS = LANE.size // WORD_BYTES
_SKIPS = range(0, (WORDS + 1) * BLOCK_WORDS * WORD_BYTES, BLOCK_WORDS * WORD_BYTES)
"""From a flow's first word to each of its words, in bytes."""
_WRITTEN, _READ = 0, 2
"""Their places in ``struct lane``, in words."""


class Lanes:
    """Consumer's end of all lanes; the fds stay the caller's.  ``room``: flows of each."""

    def __init__(self, lanes_fd: int, flows_fd: int, cpus: int, room: int) -> None:
        self._room = room
        size = cpus * blocks(room) * BLOCK.size
        self._lanes = mmap.mmap(lanes_fd, cpus * LANE.size)
        self._flows = mmap.mmap(flows_fd, size, prot=mmap.PROT_READ)
        self._view = memoryview(self._flows)
        # One load, one store each, as with the ring.
        self._words = memoryview(self._lanes).cast("Q")
        self._starts = range(0, cpus * _LANE_WORDS, _LANE_WORDS)

    def waiting_bytes(self) -> int:
        return sum(self._flows_waiting()) * LAYOUT.size

    def half_full(self) -> bool:
        """Whether one of them is: flows that find it full take the dearer ring."""
        return 2 * max(self._flows_waiting()) > self._room

    def _flows_waiting(self) -> list[int]:
        words = self._words
        return [words[at + _WRITTEN] - words[at + _READ] for at in self._starts]

    def drain(self) -> Columns:
        """All flows so far; frees their room."""
        ends = [self._words[at + _WRITTEN] for at in self._starts]
        runs = list(chain.from_iterable(map(self._runs, count(), ends)))
        view = self._view
        flows = Columns(
            tuple(
                b"".join([view[first + skip : last + skip] for first, last in runs])
                for skip in _SKIPS
            )
        )
        for at, end in zip(self._starts, ends, strict=True):
            self._words[at + _READ] = end
        return flows

    def _runs(self, cpu: int, end: int) -> Iterator[tuple[int, int]]:
        """Where the first words of a CPU's flows up to ``end`` lie: from, to, in bytes."""
        begin = self._words[self._starts[cpu] + _READ]
        while begin < end:
            block, slot = divmod(begin % self._room, BLOCK_FLOWS)
            many = min(end - begin, BLOCK_FLOWS - slot, self._room - begin % self._room)
            first = (cpu * blocks(self._room) + block) * BLOCK.size + slot * WORD_BYTES
            yield first, first + many * WORD_BYTES
            begin += many

    def close(self) -> None:
        self._view.release()
        self._words.release()
        self._lanes.close()
        self._flows.close()
