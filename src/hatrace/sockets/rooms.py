"""Rooms: how many fds a process has, and how many it may have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from hatrace.model.topology import Room

SOFT = re.compile(r"^Max open files +(\d+)", re.MULTILINE)
MOST = 64
"""Processes asked at a time."""


def rooms(pids: Iterable[int]) -> dict[int, Room]:
    """By pid; without those that have ended or may not be read, and without a limit."""
    found = {}
    for pid in sorted(pids)[:MOST]:
        room = room_of(pid)
        if room is not None:
            found[pid] = room
    return found


def room_of(pid: int) -> Room | None:
    """None: it has ended, may not be read, or has no limit."""
    process = Path(f"/proc/{pid}")
    try:
        limit = SOFT.search((process / "limits").read_text())
        used = _entries(process / "fd")
    except OSError:
        return None
    return Room(used, int(limit[1])) if limit else None


def _entries(fds: Path) -> int:
    """The kernel tells how many there are (6.2 on, fs/proc/fd.c); else they are listed: 100,000
    take a quarter of a second."""
    return fds.stat().st_size or sum(1 for _ in fds.iterdir())
