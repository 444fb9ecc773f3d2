"""Reading our own fds needs no rights; other processes' are read in tests/kernel."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatrace.model.event import Holder
from hatrace.sockets import holders as module
from hatrace.sockets.holders import Finder, by_inode, held_by, holders, holds

ME = os.getpid()


@pytest.fixture
def held() -> Iterator[Holder]:
    """A socket of ours, kept open for the test."""
    one = socket.socket(socket.AF_UNIX)
    try:
        yield Holder(ME, one.fileno(), os.fstat(one.fileno()).st_ino)
    finally:
        one.close()


def test_sockets_are_found_and_files_are_not(held: Holder) -> None:
    seen = held_by(ME)
    assert held in seen
    with Path(os.devnull).open() as file:
        assert file.fileno() not in {holder.fd for holder in held_by(ME)}
    assert holders([ME])[0] and holders([2**22 - 1]) == ([], [])


def test_what_was_found_is_asked_about_again(held: Holder) -> None:
    assert holds(held)
    assert not holds(Holder(ME, held.fd, held.inode + 1))
    assert not holds(Holder(ME, 1 << 20, held.inode))
    finder = Finder()
    assert finder.find([held.inode, 0]) == {held.inode: [held]}
    os.close(held.fd)
    try:
        assert finder.find([held.inode]) == {}
    finally:
        replacement = socket.socket(socket.AF_UNIX)
        assert replacement.fileno() <= held.fd
        os.dup2(replacement.fileno(), held.fd)
        if replacement.fileno() != held.fd:
            replacement.close()
        else:
            replacement.detach()


def test_every_process_is_read_only_when_needed(
    held: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    whole = module.all_pids

    def counted() -> list[int]:
        looks.append(1)
        return [ME] if ME in whole() else []

    monkeypatch.setattr(module, "all_pids", counted)
    finder = Finder()
    for _ in range(5):
        assert finder.find([held.inode]) == {held.inode: [held]}
    assert len(looks) == 1, "the rest was answered by one readlink each"
    assert finder.find([held.inode], known=[held]) == {held.inode: [held]}


def test_a_regular_is_found_without_reading_everybody(
    held: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = Finder()
    finder.find([held.inode])
    monkeypatch.setattr(module, "all_pids", lambda: pytest.fail("not needed"))
    with socket.socket(socket.AF_UNIX) as other:
        inode = os.fstat(other.fileno()).st_ino
        assert [h.fd for h in finder.find([inode])[inode]] == [other.fileno()]


def test_looking_at_everybody_rests_in_proportion_to_its_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []

    def slow() -> list[int]:
        looks.append(1)
        time.sleep(0.01)
        return []

    monkeypatch.setattr(module, "all_pids", slow)
    finder = Finder(share=0.0001)
    for _ in range(3):
        assert finder.find([12345]) == {}
    assert len(looks) == 1


def test_known_holders_save_the_search(monkeypatch: pytest.MonkeyPatch, held: Holder) -> None:
    monkeypatch.setattr(module, "all_pids", lambda: pytest.fail("not needed"))
    assert Finder().find([held.inode], known=[held]) == {held.inode: [held]}


def test_one_holder_of_each_inode() -> None:
    first, second = Holder(1, 3, 9), Holder(2, 3, 9)
    assert by_inode([first, second, Holder(1, 4, 8)]) == {9: first, 8: Holder(1, 4, 8)}
