"""A tool's processes: all those of the session it was started in, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on (proc(5)); nothing if it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def of_session(session: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields and int(fields[3]) == session and fields[0] != "Z":
                yield int(entry.name)


def named(comm: str) -> Iterator[int]:
    """All processes of this name."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found = Path(entry, "comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if found == comm:
                yield int(entry.name)


def cpu_s(session: int) -> float:
    """User and system time of the session's living processes so far; precision: a tick."""
    stats = [_stat(pid) for pid in of_session(session)]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats if fields) / TICKS


def resident_bytes(session: int) -> int:
    stats = [_stat(pid) for pid in of_session(session)]
    return sum(int(fields[21]) for fields in stats if fields) * PAGE_BYTES
