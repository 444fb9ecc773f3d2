"""Which processes a scope means, as of now."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.sockets.holders import all_pids
from hatrace.sockets.members import members as sockets_members
from hatrace.sockets.names import comm


def members(scope: Scope, haproxy: frozenset[int]) -> frozenset[int]:
    """Its processes; ``haproxy`` are those the sampler found.  Empty where the kernel decides."""
    if scope.kind is ScopeKind.COMM:
        names = {value[:15] for value in scope.values}
        return frozenset(pid for pid in all_pids() if comm(pid) in names)
    if scope.kind is ScopeKind.PID:
        return _descendants(pids_of(scope)) | haproxy
    if scope.kind is ScopeKind.CGROUP:  # for fd tables, and for kernels before 5.15
        return frozenset(sockets_members(scope))
    return haproxy if scope.kind is ScopeKind.HAPROXY else frozenset()


def pids_of(scope: Scope) -> frozenset[int]:
    return frozenset(map(int, scope.values)) if scope.kind is ScopeKind.PID else frozenset()


def _descendants(pids: frozenset[int]) -> frozenset[int]:
    """The processes that are alive among these, and all their children."""
    found = {pid for pid in pids if Path(f"/proc/{pid}").exists()}
    ahead = list(found)
    while ahead:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{ahead[-1]}/task/{ahead[-1]}/children").read_text().split()
            ahead[-1:] = [pid for pid in map(int, children) if pid not in found]
            found.update(map(int, children))
            continue
        ahead.pop()
    return frozenset(found)


def nobody(scope: Scope) -> EnvironmentLacks:
    if scope.kind is ScopeKind.HAPROXY:
        return EnvironmentLacks(
            "no HAProxy runs on this host",
            "no process is named haproxy",
            "start it, or name what to watch: --comm NAME, --pid PID or --all",
        )
    return EnvironmentLacks(
        f"nothing to watch: {scope}", "no such process is running", "see `ps -e`, or use --all"
    )
