"""hatrace leaves a command-line socket alone before it is full: with real sockets of this
process, and at the numbers where the answer changes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hatrace.commands._crowd import crowded
from hatrace.model.event import CommandSockets
from hatrace.model.topology import CommandSocket
from hatrace.sockets.command_sockets import command_sockets
from hatrace.sockets.holders import Finder
from tests import factories as make

LIMIT = 10


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """Bound as HAProxy does: to a temporary name, then renamed."""
    with socket.socket(socket.AF_UNIX) as one:
        temporary = tmp_path / f"m.sock.{os.getpid()}.tmp"
        one.bind(str(temporary))
        temporary.rename(tmp_path / "m.sock")
        one.listen(LIMIT)
        yield one


def seen(path: Path, master: bool = True) -> tuple[CommandSockets, CommandSocket]:
    ours = CommandSocket(str(path), master, os.getpid(), None, LIMIT)
    return command_sockets([ours], Finder()), ours


@pytest.mark.parametrize(
    ("master", "clients", "free"),
    [(True, 0, True), (True, 8, True), (True, 9, False), (True, 10, False),
     (False, 9, True), (False, 10, False)],
)  # fmt: skip
def test_two_places_are_left_at_a_master_and_none_is_waited_for_at_a_worker(
    master: bool, clients: int, free: bool, listener: socket.socket, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        for _ in range(clients):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(tmp_path / "m.sock"))
            stack.enter_context(listener.accept()[0])
        why = crowded(*seen(tmp_path / "m.sock", master))
    assert (why is None) is free, why
    if why:
        assert why == f"{clients} of its 10 slots are used"


def test_whoever_waits_goes_first(listener: socket.socket, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "m.sock"))
        assert crowded(*seen(tmp_path / "m.sock")) == "1 connections wait there to be accepted"


def test_a_listener_that_is_not_there(tmp_path: Path) -> None:
    assert crowded(*seen(tmp_path / "m.sock")) == "its listener was not found"
    assert crowded(*seen(tmp_path / "m.sock", master=False)) is None


def test_connections_to_another_socket_do_not_count() -> None:
    sockets = make.master_connections(make.at(1), clients=10)
    other = CommandSocket("/run/other.sock", True, 1, 1, LIMIT)
    assert crowded(sockets, other) == "its listener was not found"
