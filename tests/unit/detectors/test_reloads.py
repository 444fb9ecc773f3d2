"""Generations: which process replaced which, by its command line, its files and its network."""

from __future__ import annotations

import pytest

from hatrace.detectors.reloads import same_haproxy
from hatrace.model.topology import Kind, Process
from tests import factories as make
from tests.unit.detectors.worlds import table


def alone(pid: int, line: str = "haproxy", **fields: object) -> Process:
    words = tuple(line.split())
    return make.process(pid, Kind.STANDALONE, parent_pid=1, command_line=words, **fields)


OLD = alone(2000)


@pytest.mark.parametrize("line", ["-sf 2000", "-f /b -st 12 2000 -n 5", "-sf 1 -x a -sf 2000"])
def test_who_is_named_after_sf_is_replaced(line: str) -> None:
    assert same_haproxy(table(), alone(2001, f"haproxy {line}"), OLD)


@pytest.mark.parametrize("line", ["-sf 12 -f /b -n 2000", "-n 2000", "-f 2000 -sf", "-sf 20000"])
def test_other_numbers_are_no_pids(line: str) -> None:
    assert not same_haproxy(table(), alone(2001, f"haproxy {line}"), OLD)


def test_pids_of_a_container_are_its_own() -> None:
    inside = alone(2001, "haproxy -sf 2000", container_pid=9)
    assert not same_haproxy(table(), inside, OLD)
    contained = alone(2002, container_pid=8)
    assert not same_haproxy(table(), alone(2003, "haproxy -sf 8"), contained)
    assert same_haproxy(table(), alone(2003, "haproxy -sf 8", container_pid=9), contained)
    other = alone(2003, "haproxy -sf 8", container_pid=9, netns=7)
    assert not same_haproxy(table(), other, contained)


def test_the_same_files_in_the_same_network() -> None:
    old = alone(2000, config_files=("/a", "/b"))
    assert same_haproxy(table(), alone(2001, config_files=("/b",)), old)
    assert not same_haproxy(table(), alone(2001, config_files=("/b",), netns=7), old)
