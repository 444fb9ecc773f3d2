"""The lanes' consumer end, on memory laid out as bpf/flow.h and bpf/lanes.h lay it out."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import pytest

from hatrace.kernel.lanes import Lanes
from hatrace.kernel.wire import LANE
from hatrace.model.flow import LAYOUT
from tests import factories as make

CPUS, ROOM = 3, 4


@dataclass
class Kernel:
    """The producers' end."""

    lanes: mmap.mmap
    flows: mmap.mmap
    written: list[int] = field(default_factory=lambda: [0] * CPUS)

    def put(self, cpu: int, record: bytes) -> bool:
        """Whether there was room."""
        if self.written[cpu] - self.read(cpu) >= ROOM:
            return False
        at = (cpu * ROOM + self.written[cpu] % ROOM) * LAYOUT.size
        self.flows[at : at + LAYOUT.size] = record
        self.written[cpu] += 1
        LANE.pack_into(self.lanes, cpu * LANE.size, self.written[cpu], 0, self.read(cpu))
        return True

    def read(self, cpu: int) -> int:
        return int(LANE.unpack_from(self.lanes, cpu * LANE.size)[2])


@pytest.fixture
def ends() -> Iterator[tuple[Kernel, Lanes]]:
    fds = [os.memfd_create(name) for name in ("lanes", "flows")]
    sizes = (CPUS * LANE.size, CPUS * ROOM * LAYOUT.size)
    for fd, size in zip(fds, sizes, strict=True):
        os.truncate(fd, size)
    kernel = Kernel(*(mmap.mmap(fd, size) for fd, size in zip(fds, sizes, strict=True)))
    lanes = Lanes(*fds, CPUS, ROOM)
    yield kernel, lanes
    lanes.close()
    for each in (kernel.lanes, kernel.flows):
        each.close()
    for fd in fds:
        os.close(fd)


@cache
def record(number: int) -> bytes:
    return make.flow(id=number).pack()


def test_nothing_waits_at_first(ends: tuple[Kernel, Lanes]) -> None:
    _, lanes = ends
    assert lanes.waiting_bytes() == 0
    assert lanes.drain() == b""


def test_each_lane_in_its_order(ends: tuple[Kernel, Lanes]) -> None:
    kernel, lanes = ends
    for cpu, number in ((2, 20), (0, 1), (2, 21)):
        assert kernel.put(cpu, record(number))
    assert lanes.waiting_bytes() == 3 * LAYOUT.size
    assert lanes.drain() == record(1) + record(20) + record(21)
    assert lanes.waiting_bytes() == 0
    assert lanes.drain() == b""


def test_a_full_lane_takes_no_more_until_it_is_drained(ends: tuple[Kernel, Lanes]) -> None:
    kernel, lanes = ends
    some = [record(number) for number in range(ROOM)]
    assert all(kernel.put(1, each) for each in some)
    assert not kernel.put(1, record(99))
    assert kernel.put(0, record(50)), "another CPU's has room"
    assert lanes.drain() == record(50) + b"".join(some)
    assert kernel.put(1, record(99))
    assert lanes.drain() == record(99)


def test_half_full_is_said_of_the_fullest(ends: tuple[Kernel, Lanes]) -> None:
    kernel, lanes = ends
    for number in range(ROOM // 2):
        assert kernel.put(0, record(number)) and kernel.put(2, record(number))
    assert not lanes.half_full()
    assert kernel.put(2, record(99))
    assert lanes.half_full()
    lanes.drain()
    assert not lanes.half_full()


def test_round_and_round(ends: tuple[Kernel, Lanes]) -> None:
    kernel, lanes = ends
    for number in range(0, 60, 3):
        some = [record(number + each) for each in range(3)]
        assert all(kernel.put(1, each) for each in some)
        assert lanes.drain() == b"".join(some)
