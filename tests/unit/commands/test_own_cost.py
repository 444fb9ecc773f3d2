"""BPF time is sampled and extrapolated; CPU and memory are this process's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatrace.commands._own_cost import EVERY_NS, BpfTime, OwnCost

SECOND_NS = 1_000_000_000


class Kernel:
    """Counts only while somebody holds an fd of it; 2 ms in 100 runs each second."""

    def __init__(self) -> None:
        self.ns = self.runs = 0
        self.fds: list[int] = []
        self.asked = 0

    def enable(self) -> int:
        self.asked += 1
        self.fds.append(os.open(os.devnull, os.O_RDONLY))
        return self.fds[-1]

    def counting(self) -> bool:
        return any(Path(f"/proc/self/fd/{fd}").exists() for fd in self.fds)

    def read(self) -> tuple[int, int]:
        return self.ns, self.runs

    def pass_time(self, seconds: int) -> None:
        if self.counting():
            self.ns += 2_000_000 * seconds
            self.runs += 100 * seconds


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    yield (made := Kernel())
    assert not made.counting(), "it was left counting"


def test_a_second_in_thirty_stands_for_all(kernel: Kernel) -> None:
    time = BpfTime(kernel.read, kernel.enable, 0)
    answers = []
    for second in range(61):
        answers.append(time.look(second * SECOND_NS, 500 * second))
        kernel.pass_time(1)
    assert answers[:3] == [None, (2_000_000, 100), (4_000_000, 200)]
    assert answers[60] == (120_000_000, 6_000)
    assert kernel.asked == 3
    assert time.measured_ns == 2 * SECOND_NS
    time.close()


def test_it_counts_for_the_time_of_its_samples_only(kernel: Kernel) -> None:
    time = BpfTime(kernel.read, kernel.enable, 0)
    time.look(0, 0)
    assert kernel.counting()
    time.look(SECOND_NS, 0)
    assert not kernel.counting()
    time.look(EVERY_NS, 0)
    assert kernel.counting()
    time.close()
    assert not kernel.counting()


def test_a_changed_load_is_sampled_soon_a_steady_one_is_not(kernel: Kernel) -> None:
    time, gone, asked = BpfTime(kernel.read, kernel.enable, 0), 0, []
    for second, ended in enumerate([500] * 8 + [5_000] * 8 + [6_000] * 8 + [0] * 4):
        gone += ended
        time.look(second * SECOND_NS, gone)
        if kernel.asked > len(asked):
            asked.append(second)
    time.close()
    assert asked == [0, 8, 24]


def test_where_it_may_not_ask_nothing_is_known() -> None:
    def refuse() -> int:
        raise PermissionError

    time = BpfTime(lambda: (0, 0), refuse, 0)
    assert [time.look(second * SECOND_NS, 0) for second in range(40)] == [None] * 40


def test_without_bpf_the_kernel_is_not_asked(kernel: Kernel) -> None:
    time = BpfTime(lambda: None, kernel.enable, 0)
    assert time.look(0, 0) is None
    assert kernel.asked == 0


def test_own_cpu_counts_from_the_start_and_only_grows() -> None:
    cost = OwnCost(lambda: None, sample=False)
    first, second = cost.event(0), cost.event(0)
    cost.close()
    assert 0 <= first.cpu_ns <= second.cpu_ns
    assert first.at_ns < second.at_ns
    assert first.resident_bytes > 1_000_000
    assert first.bpf_ns is first.bpf_measured_ns is None
