"""Which of HAProxy's log lines belong to a finding."""

from __future__ import annotations

import pytest

from hatrace.detectors.quotes import quotes
from hatrace.model.event import LogLine, Tick
from tests import factories as make
from tests.unit.detectors.worlds import table

LINES = (
    LogLine(make.at(1), make.WORKER, "Server be/s1 is DOWN, reason: Layer4 timeout"),
    LogLine(make.at(2), make.WORKER, "Server be/s12 is DOWN, reason: Layer4 timeout"),
    LogLine(make.at(3), 77, "Health check for server be/s1 failed, reason: Layer4 timeout"),
    LogLine(make.at(4), 0, "proxy be has no server available!"),
    LogLine(make.at(5), make.WORKER, "Server be/s1 is UP."),
)


def texts(
    names: tuple[str, ...] = (), pids: tuple[int, ...] = (), seconds: float = 0, most: int = 9
) -> list[str]:
    world = table(*LINES, Tick(make.at(10)))
    return [one.note for one in quotes(world, names, pids, make.at(seconds), most)]


@pytest.mark.parametrize(
    ("names", "pids", "seconds", "numbers"),
    [
        (("be/s1",), (), 0, [0, 2, 4]),
        (("be/s1",), (make.WORKER,), 0, [0, 4]),
        (("be",), (), 0, [3]),
        (("be", "be/s12"), (), 0, [1, 3]),
        (("be/s1",), (), 2, [2, 4]),
        ((), (make.WORKER,), 0, [0, 1, 3, 4]),
        (("", "s1"), (), 0, []),
    ],
)
def test_which(
    names: tuple[str, ...], pids: tuple[int, ...], seconds: float, numbers: list[int]
) -> None:
    assert texts(names, pids, seconds) == [LINES[number].text for number in numbers]


def test_the_latest_ones_oldest_first() -> None:
    assert texts(("be/s1",), most=2) == [LINES[2].text, LINES[4].text]


def test_as_evidence() -> None:
    world = table(*LINES, Tick(make.at(10)))
    (down,) = quotes(world, ("be/s12",))
    assert (down.what, down.pid, down.age_s) == ("log", make.WORKER, 8.0)
