"""The BPF ring buffer, read without libbpf: mapped where there is news, no callback, no wake-up.

Layout (kernel/bpf/ringbuf.c): page 0 holds the consumer's position, page 1 the producer's, then
the data.  The kernel offers the data twice in a row, so that no record seems to wrap.  Every
mapped page counts as resident memory, so the two positions alone stay mapped: 8 MB less.
A record is a header of 8 bytes (length with a busy and a discard bit, page offset) and its
payload, rounded up to 8.  All of ours have one size, a multiple of 8: a batch is copied at once,
as words, and every 24th word, the header, is then deleted (0.03 us a record; a slice and a join
for each took 0.1).
"""

from __future__ import annotations

import mmap
import struct
from array import array

from hatrace.model.flow import LAYOUT

WORD_BYTES = 8
STRIDE_BYTES = WORD_BYTES + LAYOUT.size
DATA_OFFSET = 2 * mmap.PAGESIZE
_LENGTH = struct.pack("=I", LAYOUT.size)
"""A complete record's first word: no busy bit, no discard bit."""


class Ring:
    """Consumer's end of a ring of ``struct flow`` records; ``fd`` stays the caller's."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd, self._size = fd, size_bytes
        self._consumer = mmap.mmap(fd, mmap.PAGESIZE)
        self._producer = mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        # One load, one store: `struct` would go byte by byte, and the kernel would see a
        # position that never was (and take the ring for full).
        self._consumed = memoryview(self._consumer).cast("Q")
        self._produced = memoryview(self._producer).cast("Q")

    def waiting_bytes(self) -> int:
        """So much of it is used."""
        return self._produced[0] - self._consumed[0]

    def drain(self) -> bytes:
        """All finished records so far, packed without their headers; frees their room."""
        begin, end = self._consumed[0], self._produced[0]
        if begin == end:
            return b""
        words = array("Q")
        with self._mapped(begin, end) as data, memoryview(data) as fresh:
            start = begin % mmap.PAGESIZE
            done = _ready(fresh[start : start + end - begin]) * STRIDE_BYTES
            words.frombytes(fresh[start : start + done])
        del words[:: STRIDE_BYTES // WORD_BYTES]
        self._consumed[0] = begin + done
        return words.tobytes()

    def _mapped(self, begin: int, end: int) -> mmap.mmap:
        """The pages between two positions."""
        first = begin // mmap.PAGESIZE * mmap.PAGESIZE
        offset = DATA_OFFSET + first % self._size
        return mmap.mmap(self._fd, end - first, prot=mmap.PROT_READ, offset=offset)

    def close(self) -> None:
        for view in (self._consumed, self._produced):
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
