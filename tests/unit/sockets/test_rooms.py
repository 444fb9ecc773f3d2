"""rooms: fds of a process, used and allowed."""

from __future__ import annotations

import os
import resource

from hatrace.sockets.rooms import room_of, rooms


def test_this_process_has_room() -> None:
    room = room_of(os.getpid())
    assert room is not None
    assert room.limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 2 < room.used < room.limit


def test_a_process_that_is_gone_has_none() -> None:
    assert rooms([os.getpid(), 1 << 30]).keys() == {os.getpid()}
