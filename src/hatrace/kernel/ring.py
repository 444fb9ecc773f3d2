"""The BPF ring buffer, read without libbpf: two mappings, no callback, no wake-up.

Layout (kernel/bpf/ringbuf.c): page 0 holds the consumer's position, page 1 the producer's, then
the data.  The kernel offers the data twice in a row, so that no record seems to wrap; it is
mapped once here, as every mapped page counts as resident memory.  A record is a header of 8 bytes
(length with a busy and a discard bit, page offset) and its payload, rounded up to 8.
All of ours have one size, a multiple of 8: a batch is copied at once, as words, and every 24th
word, the header, is then deleted (0.03 us a record; a slice and a join for each took 0.1).
"""

from __future__ import annotations

import mmap
import struct
from array import array

from hatrace.model.flow import LAYOUT

WORD_BYTES = 8
STRIDE_BYTES = WORD_BYTES + LAYOUT.size
_LENGTH = struct.pack("=I", LAYOUT.size)
"""A complete record's first word: no busy bit, no discard bit."""


class Ring:
    """Consumer's end of a ring of ``struct flow`` records; ``fd`` stays the caller's."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        page = mmap.PAGESIZE
        self._size = size_bytes
        self._consumer = mmap.mmap(fd, page, offset=0)
        self._producer = mmap.mmap(fd, page + size_bytes, prot=mmap.PROT_READ, offset=page)
        self._data = memoryview(self._producer)[page:]
        # One load, one store: `struct` would go byte by byte, and the kernel would see a
        # position that never was (and take the ring for full).
        self._consumed = memoryview(self._consumer)[:8].cast("Q")
        self._produced = memoryview(self._producer)[:8].cast("Q")

    def drain(self, least_bytes: int = 0) -> bytes:
        """All finished records so far, packed without their headers; frees their room.

        Nothing while fewer than ``least_bytes`` of the ring are used.
        """
        begin, end = self._consumed[0], self._produced[0]
        if begin == end or end - begin < least_bytes:
            return b""
        words = array("Q")
        with self._between(begin, end) as fresh:
            done = _ready(fresh) * STRIDE_BYTES
            words.frombytes(fresh[:done])
        del words[:: STRIDE_BYTES // WORD_BYTES]
        self._consumed[0] = begin + done
        return words.tobytes()

    def _between(self, begin: int, end: int) -> memoryview:
        """The bytes from one position to another; copied only where they wrap."""
        start, count = begin % self._size, end - begin
        if start + count <= self._size:
            return self._data[start : start + count]
        return memoryview(bytes(self._data[start:]) + self._data[: start + count - self._size])

    def close(self) -> None:
        for view in (self._data, self._consumed, self._produced):
            view.release()
        self._producer.close()
        self._consumer.close()


def _ready(fresh: memoryview) -> int:
    """How many records, from the first, are complete: their length is free of the busy bit."""
    with fresh.cast("I") as words:
        lengths = words[:: STRIDE_BYTES // words.itemsize].tobytes()
    count = len(lengths) // len(_LENGTH)
    if lengths == _LENGTH * count:
        return count
    found = (lengths[at : at + len(_LENGTH)] for at in range(0, len(lengths), len(_LENGTH)))
    return next(number for number, length in enumerate(found) if length != _LENGTH)
