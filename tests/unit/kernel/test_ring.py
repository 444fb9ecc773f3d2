"""The ring's consumer end, on memory laid out as kernel/bpf/ringbuf.c lays it out."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from hatrace.kernel.ring import STRIDE_BYTES, Ring
from hatrace.model.flow import LAYOUT
from tests import factories as make

PAGE = mmap.PAGESIZE
SIZE = PAGE
"""Of the data: 21 records and a third, so that one wraps."""
BUSY = 1 << 31


class Kernel:
    """The producer's end."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, 2 * PAGE + 2 * SIZE)
        self.produced = 0

    def put(self, record: bytes, bits: int = 0) -> int:
        """Adds a record; returns where its header is."""
        at = self.produced
        header = struct.pack("<II", len(record) | bits, at // PAGE)
        self._write(at, header + record)
        self.produced += STRIDE_BYTES
        self._memory[PAGE : PAGE + 8] = struct.pack("<Q", self.produced)
        return at

    def commit(self, at: int, record: bytes) -> None:
        self._write(at, struct.pack("<I", len(record)))

    def consumed(self) -> int:
        return struct.unpack_from("<Q", self._memory)[0]

    def _write(self, at: int, data: bytes) -> None:
        """The real one maps the same pages twice."""
        for number, byte in enumerate(data, at):
            for copy in (0, SIZE):
                self._memory[2 * PAGE + copy + number % SIZE] = byte

    def close(self) -> None:
        self._memory.close()


@pytest.fixture
def ends() -> Iterator[tuple[Kernel, Ring]]:
    fd = os.memfd_create("ring")
    os.truncate(fd, 2 * PAGE + 2 * SIZE)
    kernel, ring = Kernel(fd), Ring(fd, SIZE)
    yield kernel, ring
    ring.close()
    kernel.close()
    os.close(fd)


def records(count: int) -> list[bytes]:
    return [make.flow(number).pack() for number in range(count)]


def test_a_record_is_whole_words_behind_a_header_of_one() -> None:
    assert LAYOUT.size % 8 == 0
    assert LAYOUT.size + 8 == STRIDE_BYTES


def test_what_was_put_comes_out_once(ends: tuple[Kernel, Ring]) -> None:
    kernel, ring = ends
    some = records(5)
    for record in some:
        kernel.put(record)
    assert ring.drain() == b"".join(some)
    assert kernel.consumed() == kernel.produced
    assert ring.drain() == b""


def test_records_that_wrap_are_whole(ends: tuple[Kernel, Ring]) -> None:
    kernel, ring = ends
    seen, some = b"", records(100)
    for number, record in enumerate(some):
        kernel.put(record)
        if number % 20 == 19:
            seen += ring.drain()
    assert seen == b"".join(some)


def test_what_is_being_written_waits_and_all_behind_it(ends: tuple[Kernel, Ring]) -> None:
    kernel, ring = ends
    first, second, third = records(3)
    kernel.put(first)
    at = kernel.put(second, BUSY)
    kernel.put(third)
    assert ring.drain() == first
    assert kernel.consumed() == STRIDE_BYTES
    assert ring.drain() == b""
    kernel.commit(at, second)
    assert ring.drain() == second + third


def test_how_much_waits(ends: tuple[Kernel, Ring]) -> None:
    kernel, ring = ends
    assert ring.waiting_bytes() == 0
    for record in records(2):
        kernel.put(record)
    assert ring.waiting_bytes() == 2 * STRIDE_BYTES
    assert kernel.consumed() == 0
