"""What the kernel says of a process's BPF programs: which they are, how long they ran.

bpftool of Debian 12 does not tell whose a program is, so it is read from the fdinfo of the
process: ``prog_id`` stands there for an fd of a program and for one of a link to it.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RUN_TIME = 0  # BPF_STATS_RUN_TIME, include/uapi/linux/bpf.h
INFO_BYTES, NAME = 232, slice(64, 80)  # struct bpf_prog_info, there


@dataclass(frozen=True)
class RunTime:
    """Sums over some programs since they were loaded, counted while stats were enabled."""

    ns: int
    runs: int

    def __add__(self, other: RunTime) -> RunTime:
        return RunTime(self.ns + other.ns, self.runs + other.runs)

    def __sub__(self, before: RunTime) -> RunTime:
        return RunTime(self.ns - before.ns, self.runs - before.runs)


@cache
def _libbpf() -> ctypes.CDLL:
    return ctypes.CDLL("libbpf.so.1", use_errno=True)


def _checked(fd: int, what: str) -> int:
    """libbpf 1.x returns -errno."""
    if fd < 0:
        raise OSError(-fd, f"{what}: {os.strerror(-fd)}")
    return fd


@contextmanager
def stats_enabled() -> Iterator[None]:
    """As kernel.bpf_stats_enabled=1, but tied to an fd: it ends with us, however we end."""
    fd = _checked(_libbpf().bpf_enable_stats(RUN_TIME), "enable BPF statistics")
    try:
        yield
    finally:
        os.close(fd)


def program_ids(pids: Iterable[int]) -> frozenset[int]:
    """The BPF programs that these processes hold, themselves or by a link."""
    return frozenset(program for pid in pids for program in _held_by(pid))


def _held_by(pid: int) -> Iterator[int]:
    try:
        for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
            if found := re.search(r"^prog_id:\s*(\d+)", entry.read_text(), re.MULTILINE):
                yield int(found[1])
    except (FileNotFoundError, ProcessLookupError):
        return  # it, or the fd, has gone meanwhile


def name(program: int) -> str:
    """What it was loaded as; empty if it has gone."""
    fd = _libbpf().bpf_prog_get_fd_by_id(program)
    if fd < 0:
        return ""
    info = ctypes.create_string_buffer(INFO_BYTES)
    size = ctypes.c_uint32(INFO_BYTES)
    try:
        _checked(_libbpf().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size)), "ask a program")
    finally:
        os.close(fd)
    return info.raw[NAME].rstrip(b"\0").decode()


def run_times(programs: Iterable[int]) -> dict[str, RunTime]:
    """By name, those of one name together; one that has been unloaded counts nothing."""
    times: dict[str, RunTime] = {}
    for program in programs:
        called = name(program)
        times[called] = times.get(called, RunTime(0, 0)) + _run_time(program)
    return times


def total(times: Iterable[RunTime]) -> RunTime:
    return sum(times, RunTime(0, 0))


def _run_time(program: int) -> RunTime:
    fd = _libbpf().bpf_prog_get_fd_by_id(program)
    if fd < 0:
        return RunTime(0, 0)
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    finally:
        os.close(fd)
    numbers = dict(re.findall(r"^(run_time_ns|run_cnt):\s*(\d+)", text, re.MULTILINE))
    return RunTime(int(numbers["run_time_ns"]), int(numbers["run_cnt"]))
