"""Which processes are in scope, asked of /proc: for the rung that cannot ask the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.sockets.holders import all_pids
from hatrace.sockets.names import comm_bytes

_HAPROXY = "haproxy"


def members(scope: Scope) -> set[int]:
    """The pids in a scope now; processes that end meanwhile may still be among them."""
    if scope.kind is ScopeKind.ALL:
        return set(all_pids())
    if scope.kind is ScopeKind.CGROUP:
        return set().union(*(_of_cgroup(Path(folder)) for folder in scope.values))
    if scope.kind is ScopeKind.PID:
        return {int(value) for value in scope.values if value.isdigit()}
    names = scope.values if scope.kind is ScopeKind.COMM else (_HAPROXY,)
    wanted = {name.encode()[:15].ljust(16, b"\0") for name in names}
    return {pid for pid in all_pids() if comm_bytes(pid) in wanted}


def with_children(pids: Iterable[int]) -> set[int]:
    """These processes and all that descend from them (CONFIG_PROC_CHILDREN)."""
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += _children(pid)
    return found


def _children(pid: int) -> list[int]:
    """Of any of its threads: 7 us for each, asked each second."""
    found = b""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - asked often
    except OSError:
        return []
    for thread in threads:
        found += _read(f"/proc/{pid}/task/{thread}/children")
    return [int(child) for child in found.split()]


def _read(path: str) -> bytes:
    """All of a file; nothing if it is gone."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(file, 1 << 16), b""))
    except OSError:
        return b""
    finally:
        os.close(file)


def _of_cgroup(folder: Path) -> set[int]:
    """The processes of a cgroup and of those below it, any of which may go meanwhile."""
    found: set[int] = set()
    for place, _, _ in os.walk(folder):
        found |= set(map(int, _read(f"{place}/cgroup.procs").split()))
    return found
