"""Which processes a scope means, as of now."""

from __future__ import annotations

import os
from pathlib import Path

from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.haproxy import procfs
from hatrace.kernel.preflight import cgroup_mount, why_no_cgroup
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.sockets.members import members as sockets_members
from hatrace.sockets.members import with_children


def settled(scope: Scope) -> Scope:
    """With its cgroup's full path; it may be given from the mount on, as /proc/PID/cgroup does.

    Raises EnvironmentLacks without cgroup v2, UsageError for what is no cgroup of it.
    """
    if scope.kind is not ScopeKind.CGROUP:
        return scope
    mount = cgroup_mount()
    if mount is None:
        why, do = why_no_cgroup()
        raise EnvironmentLacks("--cgroup needs cgroup v2", why, f"{do}; or use --pid or --comm")
    given = scope.values[0]
    for folder in (Path(given).resolve(), mount / given.lstrip("/")):
        if given and folder.is_relative_to(mount) and os.access(folder / "cgroup.procs", os.R_OK):
            return Scope(ScopeKind.CGROUP, (str(folder),))
    raise UsageError(
        f"--cgroup {given}",
        f"there is no such directory of cgroup v2, which is mounted at {mount}",
        "see `systemd-cgls`, or the last line of /proc/PID/cgroup",
    )


def members(scope: Scope, haproxy: frozenset[int]) -> frozenset[int]:
    """Its processes; ``haproxy`` are those the sampler found.  Empty where the kernel decides."""
    if scope.kind is ScopeKind.COMM:
        names = {os.fsencode(value)[:15] for value in scope.values}
        return frozenset(pid for pid in procfs.pids() if _comm(pid) in names)
    if scope.kind is ScopeKind.PID:
        return _descendants(pids_of(scope)) | haproxy
    if scope.kind is ScopeKind.CGROUP:  # for fd tables, and for kernels before 5.15
        return frozenset(sockets_members(scope))
    return haproxy if scope.kind is ScopeKind.HAPROXY else frozenset()


def _comm(pid: int) -> bytes:
    return (procfs.read(pid, "comm", 64) or b"").rstrip(b"\n")


def pids_of(scope: Scope) -> frozenset[int]:
    return frozenset(map(int, scope.values)) if scope.kind is ScopeKind.PID else frozenset()


def _descendants(pids: frozenset[int]) -> frozenset[int]:
    """The processes that are alive among these, and all their children."""
    alive = (pid for pid in pids if Path(f"/proc/{pid}").exists())
    return frozenset(with_children(alive))


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
