"""The lanes' consumer end, on memory laid out as bpf/flow.h and bpf/lanes.h lay it out."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import pytest

from hatrace.kernel.lanes import Lanes
from hatrace.kernel.wire import BLOCK, BLOCK_FLOWS, BLOCK_WORDS, LANE, blocks
from hatrace.model.flow import LAYOUT, Flow
from tests import factories as make

CPUS = 3
ROOMS = [4, 2 * BLOCK_FLOWS]
"""Part of a block, and two."""


@dataclass
class Kernel:
    """The producers' end."""

    lanes: mmap.mmap
    flows: mmap.mmap
    room: int
    written: list[int] = field(default_factory=lambda: [0] * CPUS)

    def put(self, cpu: int, flow: Flow) -> bool:
        """Whether there was room."""
        if self.written[cpu] - self.read(cpu) >= self.room:
            return False
        block, slot = divmod(self.written[cpu] % self.room, BLOCK_FLOWS)
        first = (cpu * blocks(self.room) + block) * BLOCK.size + slot * 8
        for number, word in enumerate(make.columns([flow]).words):
            at = first + number * BLOCK_WORDS * 8
            self.flows[at : at + 8] = word
        self.written[cpu] += 1
        LANE.pack_into(self.lanes, cpu * LANE.size, self.written[cpu], 0, self.read(cpu))
        return True

    def read(self, cpu: int) -> int:
        return int(LANE.unpack_from(self.lanes, cpu * LANE.size)[2])


@pytest.fixture(params=ROOMS)
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Kernel, Lanes]]:
    room = request.param
    fds = [os.memfd_create(name) for name in ("lanes", "flows")]
    sizes = (CPUS * LANE.size, CPUS * blocks(room) * BLOCK.size)
    for fd, size in zip(fds, sizes, strict=True):
        os.truncate(fd, size)
    kernel = Kernel(*(mmap.mmap(fd, size) for fd, size in zip(fds, sizes, strict=True)), room)
    lanes = Lanes(*fds, CPUS, room)
    yield kernel, lanes
    lanes.close()
    for each in (kernel.lanes, kernel.flows):
        each.close()
    for fd in fds:
        os.close(fd)


@cache
def flow(number: int) -> Flow:
    return make.ended(make.flow(id=number))


def test_nothing_waits_at_first(ends: tuple[Kernel, Lanes]) -> None:
    _, lanes = ends
    assert lanes.waiting_bytes() == 0
    assert not lanes.drain()


def test_each_lane_in_its_order(ends: tuple[Kernel, Lanes]) -> None:
    kernel, lanes = ends
    for cpu, number in ((2, 20), (0, 1), (2, 21)):
        assert kernel.put(cpu, flow(number))
    assert lanes.waiting_bytes() == 3 * LAYOUT.size
    assert list(lanes.drain()) == [flow(1), flow(20), flow(21)]
    assert lanes.waiting_bytes() == 0
    assert not lanes.drain()


def test_a_full_lane_takes_no_more_until_it_is_drained(ends: tuple[Kernel, Lanes]) -> None:
    kernel, lanes = ends
    some = [flow(number) for number in range(kernel.room)]
    assert all(kernel.put(1, each) for each in some)
    assert not kernel.put(1, flow(99))
    assert kernel.put(0, flow(50)), "another CPU's has room"
    assert list(lanes.drain()) == [flow(50), *some]
    assert kernel.put(1, flow(99))
    assert list(lanes.drain()) == [flow(99)]


def test_half_full_is_said_of_the_fullest(ends: tuple[Kernel, Lanes]) -> None:
    kernel, lanes = ends
    for number in range(kernel.room // 2):
        assert kernel.put(0, flow(number)) and kernel.put(2, flow(number))
    assert not lanes.half_full()
    assert kernel.put(2, flow(99))
    assert lanes.half_full()
    lanes.drain()
    assert not lanes.half_full()


def test_round_and_round(ends: tuple[Kernel, Lanes]) -> None:
    kernel, lanes = ends
    for number in range(0, 3 * kernel.room, 3):
        some = [flow(number + each) for each in range(3)]
        assert all(kernel.put(1, each) for each in some)
        assert list(lanes.drain()) == some
