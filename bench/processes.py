"""A tool's processes: all those of the session it was started in, read from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
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
    """User and system time of the session's processes, and of the children they have seen end;
    precision: a tick."""
    stats = [_stat(pid) for pid in of_session(session)]
    return sum(int(ticks) for fields in stats for ticks in fields[11:15]) / TICKS


def own_cpu_s(pid: int) -> float:
    """CPU time of one process, what hooks do in its calls included; to the ns, by its own clock
    (clock_getcpuclockid(3): ``~pid << 3 | CPUCLOCK_SCHED``)."""
    return time.clock_gettime(~pid << 3 | 2)


def resident_bytes(session: int) -> int:
    stats = [_stat(pid) for pid in of_session(session)]
    return sum(int(fields[21]) for fields in stats if fields) * PAGE_BYTES


def share(session: int, work: Callable[[], object]) -> float:
    """CPU that the session takes, of one CPU, while ``work`` is done."""
    before_s, start = cpu_s(session), time.monotonic()
    work()
    return (cpu_s(session) - before_s) / (time.monotonic() - start)
